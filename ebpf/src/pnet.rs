use std::io;
use std::time::Duration;

use pnet_datalink::{Channel, Config, DataLinkReceiver, NetworkInterface};

use crate::clock;
use crate::layout::Sample;
use crate::sampler::FRAMES;
use crate::user_side::UserSide;

/// Room for a frame that the kernel has merged out of several.
const LONGEST: usize = 1 << 17;

/// `pnet`'s datalink: a poll and a receive for each packet. It strips VLAN tags and cannot say what it lost.
pub(crate) struct Datalink {
    receiver: Box<dyn DataLinkReceiver>,
    interface: NetworkInterface,
}

impl Datalink {
    /// Opens an interface; it needs `CAP_NET_RAW`.
    pub(crate) fn open(name: &str, promiscuous: bool) -> io::Result<Self> {
        let interfaces = pnet_datalink::interfaces();
        let interface = interfaces
            .into_iter()
            .find(|interface| interface.name == name);
        let interface = interface.ok_or_else(|| io::Error::other("pnet does not know it"))?;
        let config = Config {
            read_buffer_size: LONGEST,
            // Zero: it does not wait.
            read_timeout: Some(Duration::ZERO),
            promiscuous,
            ..Config::default()
        };
        match pnet_datalink::channel(&interface, config)? {
            Channel::Ethernet(_, receiver) => Ok(Self {
                receiver,
                interface,
            }),
            _ => Err(io::Error::other("not an Ethernet channel")),
        }
    }

    /// Hands frames to `side` until it has given `limit` samples, at most [`FRAMES`](crate::sampler::FRAMES).
    pub(crate) fn take(
        &mut self,
        limit: usize,
        side: &mut UserSide,
        each: &mut impl FnMut(&Sample, &[u8]),
    ) {
        let own = self.interface.mac.map(|mac| mac.octets());
        let time = u64::try_from(clock::monotonic()).unwrap_or(0);
        let (mut samples, mut frames) = (0, 0);
        while samples < limit
            && frames < FRAMES
            && let Ok(frame) = self.receiver.next()
        {
            frames += 1;
            // What this host sends comes along; on loopback all do.
            let is_own = frame
                .get(6..12)
                .is_some_and(|source| own.is_some_and(|own| own == *source));
            if is_own && !self.interface.is_loopback() {
                continue;
            }
            let frame_octets = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            samples += usize::from(side.handle_frame(time, frame_octets, frame, each));
        }
    }
}
