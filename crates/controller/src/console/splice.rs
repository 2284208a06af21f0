//! Bytes from one connection to the other, both ways, bounded in size and time.

use std::io;
use std::time::Duration;

use api::console::{Control, Frame, SILENCE, Stream};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::timeout;

/// For both connections to be upgraded once they were told so, and to close.
const MOMENT: Duration = Duration::from_secs(10);
/// For a connection to take what is there.
const STUCK: Duration = Duration::from_secs(30);
/// Bytes on the way in each direction.
const BUFFER: usize = 16 << 10;

/// Until one end closes, is silent or takes nothing any more.
pub(super) async fn run(user: OnUpgrade, agent: OnUpgrade, open: Control) -> io::Result<()> {
    let (user, mut agent) = (opened(user).await?, opened(agent).await?);
    Frame::Control(open).write(&mut agent).await?;
    let ((mut from_user, mut to_user), (mut from_agent, mut to_agent)) =
        (split(user), split(agent));
    let ended = tokio::select! {
        ended = pump(&mut from_user, &mut to_agent) => ended,
        ended = pump(&mut from_agent, &mut to_user) => ended,
    };
    // What was passed on shall arrive.
    let close = async { tokio::join!(to_user.shutdown(), to_agent.shutdown()) };
    let _ = timeout(MOMENT, close).await;
    ended
}

async fn opened(upgrade: OnUpgrade) -> io::Result<Stream> {
    let upgraded = timeout(MOMENT, upgrade).await?;
    upgraded.map(TokioIo::new).map_err(io::Error::other)
}

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        // Both ends ping, so silence is an end that is gone.
        let read = timeout(SILENCE, from.read(&mut buffer)).await??;
        if read == 0 {
            return Ok(());
        }
        let written = async {
            to.write_all(&buffer[..read]).await?;
            to.flush().await
        };
        timeout(STUCK, written).await??;
    }
}
