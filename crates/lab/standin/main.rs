//! Stands in for `godwit` in the lab's own tests: supervisor and proxy are real,
//! agent and controller only live; further verbs bring a lab up and move bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["lab-host", "--config", file] => {
            lab::host_main(Path::new(file)).map_err(|e| e.to_string())
        }
        ["lab-proxy", "--config", file] => {
            lab::proxy_main(Path::new(file)).map_err(|e| e.to_string())
        }
        ["agent" | "controller", "--config", file] => live(Path::new(file)),
        ["up", dir, net, rate] => up(dir, net, rate),
        ["down", dir] => lab::down(Path::new(dir)).map_err(|e| e.to_string()),
        ["serve", address] => serve(address).map_err(|e| e.to_string()),
        ["send", address, count] => send(address, count),
        _ => Err(format!("not a verb of the stand-in: {args:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// A lab of stand-ins, not waited for; the rate of its links may be empty.
fn up(dir: &str, net: &str, rate: &str) -> Result<(), String> {
    let mut options = lab::UpOptions::new(dir);
    options.net = net.parse().map_err(|e| format!("{net}: {e}"))?;
    options.link =
        (!rate.is_empty()).then(|| rate.parse()).transpose().map_err(|e| format!("{e}"))?;
    options.qemu = Some("/bin/true".into());
    options.wait = None;
    lab::up(&options).map_err(|e| e.to_string())
}

/// Lives as long as its configuration was there at the start.
fn live(config: &Path) -> Result<(), String> {
    std::fs::read_to_string(config).map_err(|e| format!("{}: {e}", config.display()))?;
    loop {
        std::thread::park();
    }
}

/// Takes one connection, reads it to its end and answers with the count of bytes.
/// Says when it listens.
fn serve(address: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("listening");
    let (mut stream, _) = listener.accept()?;
    let (mut piece, mut total) = (vec![0; 1 << 16], 0u64);
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            count => total += count as u64,
        }
    }
    stream.write_all(total.to_string().as_bytes())
}

/// Sends so many zeroes and prints the answer.
fn send(address: &str, count: &str) -> Result<(), String> {
    let mut left: usize = count.parse().map_err(|e| format!("{count}: {e}"))?;
    let mut work = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        let piece = vec![0; 1 << 16];
        while left > 0 {
            let count = left.min(piece.len());
            stream.write_all(&piece[..count])?;
            left -= count;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    println!("{}", work().map_err(|e| format!("{address}: {e}"))?);
    Ok(())
}
