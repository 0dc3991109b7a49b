//! Measures the DOTS server: memory and CPU of idle sessions, and requests per second, over real DTLS on loopback.

mod sessions;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use weir_benches::process::Usage;
use weir_dtls::{Credentials, lab};

use sessions::Sessions;

/// Measures the DOTS server: memory and CPU of idle sessions, and requests per second
#[derive(Parser, Debug)]
struct Arguments {
    /// Sessions that stand.
    #[arg(long, default_value_t = 1_000)]
    sessions: usize,
    /// Seconds for which they are idle, with a heartbeat each 30 s, and for which they ask.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The weir to measure.
    #[arg(long)]
    weir: Option<PathBuf>,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse();
    let weir = match arguments.weir {
        Some(weir) => weir,
        None => std::env::current_exe()?.with_file_name("weir"),
    };
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let mut server = start(&weir, folder.path(), address, arguments.sessions)?;
    let wanted = (arguments.sessions, Duration::from_secs(arguments.seconds));
    let measured = measure(&server, folder.path(), address, &wanted);
    server.kill()?;
    server.wait()?;
    measured
}

fn measure(
    server: &Child,
    folder: &Path,
    address: SocketAddr,
    (count, length): &(usize, Duration),
) -> Outcome<()> {
    let credentials = Credentials::from_pem_files(
        &folder.join("ca.pem"),
        &folder.join("client.pem"),
        &folder.join("client.key"),
    )?;
    let before = Usage::of(server.id())?;
    let began = Instant::now();
    let mut sessions = Sessions::connect(&credentials, address, *count)?;
    let stood = began.elapsed();
    let after = Usage::of(server.id())?;
    println!(
        "{count} sessions in {:.1} s: {:.2} ms of CPU and {:.1} KiB each",
        stood.as_secs_f64(),
        (after.cpu - before.cpu).as_secs_f64() * 1e3 / *count as f64,
        (after.resident - before.resident) as f64 / 1024.0 / *count as f64,
    );

    let idle = Usage::of(server.id())?;
    sessions.idle(*length)?;
    let rested = Usage::of(server.id())?;
    println!(
        "idle for {} s: {:.2} % of a CPU for all, {:.1} µs a second for each",
        length.as_secs(),
        (rested.cpu - idle.cpu).as_secs_f64() * 100.0 / length.as_secs_f64(),
        (rested.cpu - idle.cpu).as_secs_f64() * 1e6 / length.as_secs_f64() / *count as f64,
    );

    for (name, request) in [
        ("PUT that refreshes a mitigation", sessions::Ask::Refresh),
        ("GET of a mitigation", sessions::Ask::Read),
        ("PUT of telemetry", sessions::Ask::Tell),
    ] {
        let busy = Usage::of(server.id())?;
        let began = Instant::now();
        let answered = sessions.ask(request, *length / 3)?;
        let took = began.elapsed().as_secs_f64();
        let done = Usage::of(server.id())?;
        println!(
            "{name}: {:.0} requests a second, {:.0} for each CPU-second",
            answered as f64 / took,
            answered as f64 / (done.cpu - busy.cpu).as_secs_f64().max(1e-3),
        );
    }
    Ok(())
}

/// An address that is free now.
fn free_address() -> std::io::Result<SocketAddr> {
    std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()
}

/// `weir dots serve`, with a lab's keys.
fn start(weir: &Path, folder: &Path, address: SocketAddr, sessions: usize) -> Outcome<Child> {
    let names = lab::LabNames {
        server: Vec::new(),
        client: "weir-lab".to_owned(),
    };
    lab::write_keys(folder, &names)?;
    let config = folder.join("weir.toml");
    let most = sessions + 16;
    std::fs::write(
        &config,
        format!(
            "state_dir = \"state\"\n[dots_server]\nlisten = [\"{address}\"]\nca = \"ca.pem\"\n\
             certificate = \"server.pem\"\nkey = \"server.key\"\nmax_sessions = {most}\n\
             max_half_open = {most}\nmax_sessions_per_client = {most}\n\
             [[dots_server.client]]\nname = \"weir-lab\"\nprefixes = [\"10.0.0.0/8\"]\n"
        ),
    )?;
    let child = Command::new(weir)
        .args(["dots", "serve", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(child)
}
