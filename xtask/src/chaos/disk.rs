//! The guest's disk, served over NBD to each host on a socket of its own, so that
//! somebody outside sees who writes. Fixed newstyle handshake and simple replies of
//! <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

const INIT: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const FIXED_NO_ZEROES: u16 = 3;
/// Has flags, sends flushes, sends FUA.
const TRANSMISSION: u16 = 0b1101;
const EINVAL: u32 = 22;
const EIO: u32 = 5;
const LARGEST: u32 = 32 << 20;

/// A run of writes by one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Writes {
    pub(super) host: String,
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) count: u64,
}

/// Serves one disk image to several hosts.
#[derive(Debug)]
pub(super) struct Disk {
    writes: Arc<Mutex<Vec<Writes>>>,
    sockets: Vec<PathBuf>,
}

impl Disk {
    /// Begins to serve `image`; `socket` gives each host's socket.
    ///
    /// # Errors
    /// A socket cannot be made.
    pub(super) fn serve(
        image: &Path,
        hosts: &[&'static str],
        socket: impl Fn(&str) -> PathBuf,
    ) -> Result<Self> {
        let writes: Arc<Mutex<Vec<Writes>>> = Arc::default();
        let mut sockets = Vec::new();
        for host in hosts.iter().copied() {
            let path = socket(host);
            let listener = UnixListener::bind(&path)
                .with_context(|| format!("cannot listen on {}", path.display()))?;
            let (image, writes) = (image.to_owned(), Arc::clone(&writes));
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let Ok(file) = File::options().read(true).write(true).open(&image) else {
                        continue;
                    };
                    let export = Export { host, file, writes: Arc::clone(&writes) };
                    // However it ends, that is the client's affair.
                    std::thread::spawn(move || export.serve(stream));
                }
            });
            sockets.push(path);
        }
        Ok(Self { writes, sockets })
    }

    /// Who wrote since the last call, in order.
    pub(super) fn take(&self) -> Vec<Writes> {
        std::mem::take(&mut *self.writes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

struct Export {
    host: &'static str,
    file: File,
    writes: Arc<Mutex<Vec<Writes>>>,
}

impl Export {
    fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.write_all(&INIT.to_be_bytes())?;
        stream.write_all(&OPTION.to_be_bytes())?;
        stream.write_all(&FIXED_NO_ZEROES.to_be_bytes())?;
        let _flags = u32::from_be_bytes(take(&mut stream)?);
        let size = self.file.metadata()?.len();
        if negotiate(&mut stream, size)? {
            while self.answer(&mut stream)? {}
        }
        Ok(())
    }

    /// One request; false at the end.
    fn answer(&self, stream: &mut UnixStream) -> io::Result<bool> {
        if u32::from_be_bytes(take(stream)?) != REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let _flags = u16::from_be_bytes(take(stream)?);
        let kind = u16::from_be_bytes(take(stream)?);
        let cookie: [u8; 8] = take(stream)?;
        let offset = u64::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > LARGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![0; if kind < 2 { length as usize } else { 0 }];
        let error = match kind {
            0 => self.file.read_exact_at(&mut data, offset).map_or(EIO, |()| 0),
            1 => {
                stream.read_exact(&mut data)?;
                self.note();
                self.file.write_all_at(&data, offset).map_or(EIO, |()| 0)
            }
            2 => return Ok(false),
            3 => self.file.sync_data().map_or(EIO, |()| 0),
            _ => EINVAL,
        };
        let mut reply = REPLY.to_be_bytes().to_vec();
        reply.extend_from_slice(&error.to_be_bytes());
        reply.extend_from_slice(&cookie);
        if kind == 0 && error == 0 {
            reply.extend_from_slice(&data);
        }
        stream.write_all(&reply)?;
        Ok(true)
    }

    fn note(&self) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match writes.last_mut() {
            Some(last) if last.host == self.host => {
                last.last = now;
                last.count += 1;
            }
            _ => writes.push(Writes { host: self.host.into(), first: now, last: now, count: 1 }),
        }
    }
}

/// The options phase; true if transmission follows.
fn negotiate(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    const EXPORT_NAME: u32 = 1;
    const ABORT: u32 = 2;
    const INFO: u32 = 6;
    const GO: u32 = 7;
    loop {
        if u64::from_be_bytes(take(stream)?) != OPTION {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > 4096 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.read_exact(&mut vec![0; length as usize])?;
        let mut reply = |kind: u32, data: &[u8]| -> io::Result<()> {
            let mut bytes = OPTION_REPLY.to_be_bytes().to_vec();
            bytes.extend_from_slice(&option.to_be_bytes());
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
            bytes.extend_from_slice(data);
            stream.write_all(&bytes)
        };
        let about = [&size.to_be_bytes()[..], &TRANSMISSION.to_be_bytes()[..]].concat();
        match option {
            EXPORT_NAME => {
                stream.write_all(&about)?;
                return Ok(true);
            }
            ABORT => return reply(1, &[]).map(|()| false),
            INFO | GO => {
                reply(3, &[&0u16.to_be_bytes()[..], &about[..]].concat())?;
                reply(1, &[])?;
                if option == GO {
                    return Ok(true);
                }
            }
            // Structured replies and the like: not here.
            _ => reply(0x8000_0001, &[])?,
        }
    }
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
