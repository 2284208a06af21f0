//! What only a person can know is typed word for word, on the command line or when
//! asked for.

use std::io::{IsTerminal, Write};

use api::ClientError;
use types::Code;

/// Asks the controller; where it wants a statement and none was given, asks the user,
/// if there is one.
///
/// # Errors
/// What the controller answers.
pub(super) async fn with<T>(
    given: Option<String>,
    ask: impl AsyncFn(Option<String>) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let asked = given.is_some();
    match ask(given).await {
        Err(ClientError::Problem(problem))
            if problem.code == Code::StatementNeeded
                && !asked
                && std::io::stdin().is_terminal() =>
        {
            let remedy = problem.remedy.clone().unwrap_or_default();
            let wanted = remedy.split('"').nth(1).unwrap_or_default();
            eprintln!("{}.", problem.detail);
            eprint!("Make sure of it, then type \"{wanted}\": ");
            let _ = std::io::stderr().flush();
            let mut line = String::new();
            if std::io::stdin().read_line(&mut line).is_err() || line.trim().is_empty() {
                return Err(ClientError::Problem(problem));
            }
            ask(Some(line.trim().to_owned())).await
        }
        answer => answer,
    }
}
