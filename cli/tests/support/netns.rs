//! Network namespaces for packet tests: attackers → router → protected host, with the sampler on the protected host's interface.
#![allow(
    dead_code,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part"
)]

use std::fs::File;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Three namespaces in a row: 198.51.100.1 (attackers), a router, 203.0.113.7 (here the sampler is, on `in0`).
pub struct Line {
    pub attackers: String,
    pub router: String,
    pub host: String,
}

impl Line {
    /// `None`, with a line that says why, where this machine does not allow it.
    pub fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let line = Self {
            attackers: format!("weir-la{number}-{pid}"),
            router: format!("weir-lr{number}-{pid}"),
            host: format!("weir-lh{number}-{pid}"),
        };
        match line.build() {
            Ok(()) => Some(line),
            Err(why) => {
                assert!(
                    std::env::var_os("WEIR_CI").is_none(),
                    "CI has to run this: {why}"
                );
                eprintln!("skipped: needs root, ip (iproute2) and nft (nftables): {why}");
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let (a, r, h) = (&self.attackers, &self.router, &self.host);
        for line in [
            "nft --version".to_owned(),
            format!("ip netns add {a}"),
            format!("ip netns add {r}"),
            format!("ip netns add {h}"),
            format!("ip -n {a} link add out0 type veth peer name left0 netns {r}"),
            format!("ip -n {r} link add right0 type veth peer name in0 netns {h}"),
            format!("ip -n {a} address add 198.51.100.1/24 dev out0"),
            format!("ip -n {r} address add 198.51.100.254/24 dev left0"),
            format!("ip -n {r} address add 203.0.113.254/24 dev right0"),
            format!("ip -n {h} address add 203.0.113.7/24 dev in0"),
            format!("ip -n {a} link set dev out0 up"),
            format!("ip -n {r} link set dev left0 up"),
            format!("ip -n {r} link set dev right0 up"),
            format!("ip -n {h} link set dev in0 up"),
            format!("ip -n {h} link set dev lo up"),
            format!("ip -n {a} route add default via 198.51.100.254"),
            format!("ip -n {h} route add default via 203.0.113.254"),
            format!("ip netns exec {r} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"),
            format!("ip netns exec {r} nft list ruleset"),
        ] {
            let output = run(&line).map_err(|error| format!("`{line}`: {error}"))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(format!("`{line}`: {}", text.trim()));
            }
        }
        Ok(())
    }

    /// Whether the sampled interface has an XDP program.
    pub fn has_program(&self) -> bool {
        let output = run(&format!("ip -n {} link show dev in0", self.host)).unwrap();
        String::from_utf8_lossy(&output.stdout).contains("xdp")
    }

    /// A command that runs in the protected host.
    pub fn on_host(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host, program]);
        command
    }

    /// Works where the attackers are.
    pub fn among_attackers<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.attackers, work)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for name in [&self.attackers, &self.router, &self.host] {
            let _ = run(&format!("ip netns del {name}"));
        }
    }
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
