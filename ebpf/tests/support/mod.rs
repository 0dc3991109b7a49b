//! Network namespaces with a veth pair, and frames that are sent through it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part"
)]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Two namespaces; frames sent at `out0` in the first arrive at `in0` in the second.
pub struct Lab {
    pub here: String,
    pub there: String,
}

impl Lab {
    /// `None`, with a line that says why, where this machine does not allow it.
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let lab = Self {
            here: format!("weir-xa{number}-{pid}"),
            there: format!("weir-xb{number}-{pid}"),
        };
        match lab.build() {
            Ok(()) => Some(lab),
            Err(why) => {
                skip(&format!("needs root and ip (iproute2): {why}"));
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let (a, b) = (&self.here, &self.there);
        for line in [
            format!("ip netns add {a}"),
            format!("ip netns add {b}"),
            format!("ip -n {a} link add out0 type veth peer name in0 netns {b}"),
            // No frames but ours: IPv6 would look for neighbours.
            format!("ip netns exec {a} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/out0/disable_ipv6'"),
            format!("ip netns exec {b} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/in0/disable_ipv6'"),
            format!("ip -n {b} link set in0 mtu 3000"),
            format!("ip -n {a} link set out0 mtu 3000"),
            format!("ip -n {a} link set out0 up"),
            format!("ip -n {b} link set in0 up"),
            format!("ip -n {b} link set lo up"),
        ] {
            let output = run(&line).map_err(|error| format!("`{line}`: {error}"))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(format!("`{line}`: {}", text.trim()));
            }
        }
        Ok(())
    }

    /// Runs a line of shell where the frames arrive.
    pub fn there(&self, line: &str) -> Output {
        run(&format!("ip netns exec {} {line}", self.there)).unwrap()
    }

    /// Something that sends frames.
    pub fn sender(&self) -> Sender {
        inside(&self.here, || Sender::open("out0"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in [&self.here, &self.there] {
            let _ = run(&format!("ip netns del {name}"));
        }
    }
}

/// Says why a test is not run; CI has to run all.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("WEIR_CI").is_none(),
        "CI has to run this: {why}"
    );
    eprintln!("skipped: {why}");
}

pub fn run(line: &str) -> std::io::Result<Output> {
    Command::new("sh").args(["-c", line]).output()
}

/// Does something in a network namespace; what it opens stays there.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let handle = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(handle, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// A packet socket that frames leave by.
pub struct Sender(OwnedFd);

impl Sender {
    fn open(interface: &str) -> Self {
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        // SAFETY: plain calls; the address is a `sockaddr_ll`, of its length, and zeros are good for the rest of it.
        unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(socket >= 0);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = index.cast_signed();
            let length = size_of::<libc::sockaddr_ll>() as u32;
            assert_eq!(libc::bind(socket, (&raw const address).cast(), length), 0);
            // What comes back is not read.
            let one = 1_i32;
            libc::setsockopt(
                socket,
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const one).cast(),
                4,
            );
            Self(OwnedFd::from_raw_fd(socket))
        }
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: the octets are good for their length.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(
            sent,
            frame.len().cast_signed(),
            "{}",
            std::io::Error::last_os_error()
        );
    }
}

/// All captures of the project's shared data, where there are any.
pub fn captures() -> Option<Vec<PathBuf>> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")),
        PathBuf::from,
    );
    let mut folders = vec![shared.join("data/pcap")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()? {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if weir_collector::Capture::open(&path).is_ok() {
                files.push(path);
            }
        }
    }
    files.sort();
    Some(files)
}
