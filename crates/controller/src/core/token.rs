//! One-time tokens: one host each, one use each, for a bounded time.

use serde::{Deserialize, Serialize};
use types::{Code, HostId, Problem};

use super::Note;

/// A token, as the store keeps it under its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The host that it is for.
    pub host: HostId,
    /// Until when it can be used, in milliseconds since 1970.
    pub expires_ms: i64,
    /// The request (PEM) that it was used for.
    pub used_for: Option<String>,
}

/// Uses a token of `host` for a request. Whoever repeats the very same request gets
/// an answer again (the first may have been lost); nobody else does.
pub fn redeem(
    token: &mut Option<Token>,
    host: &HostId,
    request: &str,
    now_ms: i64,
) -> Result<Vec<Note>, Problem> {
    let refused = |why: &str| {
        Problem::new(Code::TokenRefused, format!("the token {why}"))
            .remedy(format!("an administrator makes a new one: `godwit host add {host}`"))
    };
    let token = token.as_mut().ok_or_else(|| refused("is not known here"))?;
    if token.host != *host {
        return Err(refused("was made for another host"));
    }
    if now_ms > token.expires_ms {
        return Err(refused("is too old"));
    }
    match &token.used_for {
        Some(earlier) if earlier == request => Ok(Vec::new()),
        Some(_) => Err(refused("has been used already")),
        None => {
            token.used_for = Some(request.to_owned());
            Ok(vec![Note::by(host, "host-enrolled")])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_once_by_its_host_in_time() {
        let host: HostId = "host-a".parse().unwrap();
        let other: HostId = "host-b".parse().unwrap();
        let made = Token { host: host.clone(), expires_ms: 1000, used_for: None };
        let why = |token: &Option<Token>, host: &HostId, request: &str, now| {
            let problem = redeem(&mut token.clone(), host, request, now).unwrap_err();
            assert_eq!(problem.code, Code::TokenRefused);
            assert!(problem.remedy.is_some_and(|r| r.contains("godwit host add")));
            problem.detail
        };
        let mut token = Some(made);
        assert!(why(&None, &host, "r", 0).contains("not known"));
        assert!(why(&token, &other, "r", 0).contains("another host"));
        assert!(why(&token, &host, "r", 1001).contains("too old"));
        assert_eq!(redeem(&mut token, &host, "r", 1000).unwrap().len(), 1);
        assert_eq!(redeem(&mut token, &host, "r", 1000).unwrap(), Vec::new());
        assert!(why(&token, &host, "s", 1000).contains("used"));
        assert!(why(&token, &host, "r", 1001).contains("too old"));
    }
}
