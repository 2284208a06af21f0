//! Tokens for new hosts, first certificates, and the ones after those.

use api::body::{CertificateRequest, EnrollRequest, NewCertificate, NewToken, TokenRequest};
use api::certs::Token;
use api::contract;
use types::{Code, Problem};

use crate::call::{Call, Terms};
use crate::core::{self, Note};
use crate::keys;
use crate::routes::Routes;
use crate::shell::Shell;
use crate::when::now_ms;

/// How long a token can be used where nothing is said, in seconds.
const LIFETIME: u64 = 3600;
/// The longest, in seconds.
const LONGEST: u64 = 7 * 24 * 3600;
/// How long a token that has run out is remembered, for a better answer.
const REMEMBERED_MS: i64 = 7 * 24 * 3600 * 1000;
/// Most tokens that are kept.
const MOST: usize = 1000;
/// Longest certificate request in bytes.
const MAX_REQUEST: usize = 8 << 10;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes
        .add(contract::TOKEN_CREATE, new_token)
        .add(contract::ENROLL, enroll)
        .add(contract::AGENT_RENEW, renew)
}

async fn new_token(call: Call<(), TokenRequest, NewToken>) -> Result<NewToken, Problem> {
    let (user, shell) = (call.user(), call.shell);
    let TokenRequest { host, lifetime_seconds } = call.body;
    let lifetime = lifetime_seconds.unwrap_or(LIFETIME);
    if lifetime == 0 || lifetime > LONGEST {
        let detail = format!("lifetime_seconds: must be 1 to {LONGEST}");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    if shell.seen().hosts.get(&host).is_some_and(crate::seen::Host::up) {
        let detail = format!("{host} is up, with a certificate that it renews by itself");
        return Err(Problem::new(Code::Conflict, detail)
            .remedy("end that agent first if another machine is to be this host"));
    }
    forget_old(&shell).await?;
    let internal = |e: api::certs::CertError| Problem::new(Code::Internal, e.to_string());
    let token = Token::new(host.clone(), shell.signer().fingerprint()?).map_err(internal)?;
    let expires_ms = now_ms().saturating_add_unsigned(lifetime * 1000);
    let expires = jiff::Timestamp::from_millisecond(expires_ms)
        .map_err(|e| Problem::new(Code::Internal, e.to_string()))?
        .to_string();
    let note = Note::by(user, "token-made").detail(format!("for {host}, until {expires}"));
    let kept = core::Token { host: host.clone(), expires_ms, used_for: None };
    let decide = move |record: &mut Option<core::Token>| {
        *record = Some(kept.clone());
        Ok(vec![note.clone()])
    };
    shell.alter(call.terms, keys::token(&token.digest()), decide).await?;
    Ok(NewToken { host, token: token.to_string(), expires })
}

/// Forgets tokens that ran out long ago, and makes sure that there is room.
async fn forget_old(shell: &Shell) -> Result<(), Problem> {
    let entries = shell.all(keys::TOKENS).await?;
    let tokens = crate::shell::parse_all::<core::Token>(&entries)?;
    let mut kept = entries.len();
    for (entry, token) in entries.into_iter().zip(tokens) {
        if token.expires_ms.saturating_add(REMEMBERED_MS) < now_ms() {
            let forget = |record: &mut Option<core::Token>| {
                *record = None;
                Ok(Vec::new())
            };
            shell.alter(Terms::default(), entry.key, forget).await?;
            kept -= 1;
        }
    }
    if kept >= MOST {
        let detail = format!("there are {kept} tokens already");
        return Err(Problem::new(Code::Conflict, detail)
            .remedy("wait until some have been forgotten, a week after they ran out"));
    }
    Ok(())
}

/// Asked by strangers, who have nothing but a token.
async fn enroll(call: Call<(), EnrollRequest, NewCertificate>) -> Result<NewCertificate, Problem> {
    let (shell, EnrollRequest { token, request }) = (call.shell, call.body);
    let token: Token = token
        .parse()
        .map_err(|e: api::certs::TokenError| Problem::new(Code::InvalidRequest, e.to_string()))?;
    check(&request)?;
    shell.signer().ready()?;
    let (host, text) = (token.host.clone(), request.clone());
    let decide =
        move |record: &mut Option<core::Token>| core::redeem(record, &host, &text, now_ms());
    // Durable before anything is signed.
    shell.alter(Terms::default(), keys::token(&token.digest()), decide).await?;
    tracing::info!(host = %token.host, "enrolled");
    shell.signer().sign(token.host, &request)
}

async fn renew(
    call: Call<(), CertificateRequest, NewCertificate>,
) -> Result<NewCertificate, Problem> {
    let host = call.host()?;
    check(&call.body.request)?;
    let made = call.shell.signer().sign(host, &call.body.request)?;
    tracing::info!(host = %made.host, "certificate renewed");
    Ok(made)
}

/// A request that cannot be signed must not use up a token.
fn check(request: &str) -> Result<(), Problem> {
    let wrong = |why: String| Problem::new(Code::InvalidRequest, format!("request: {why}"));
    if request.len() > MAX_REQUEST {
        return Err(wrong(format!("longer than {MAX_REQUEST} bytes")));
    }
    api::certs::check_request(request).map_err(|e| wrong(e.to_string()))
}
