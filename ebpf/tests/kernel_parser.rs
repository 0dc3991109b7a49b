//! The kernel program reads what the parser in user space reads: on crafted frames, on damaged ones, and on whole captures.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/frames.rs"]
mod frames;
mod support;

use frames::{Shows, cases};
use support::skip;
use weir_collector::Capture;
use weir_ebpf::{HEADERS, KernelSettings, Program, Sample, parse};
use weir_packet::LinkType;

/// Frames that wait in the ring at most.
const PENDING: usize = 10_000;

fn program() -> Option<Program> {
    let settings = KernelSettings {
        sample_one_in: 1,
        headers: true,
        exact: false,
        ring_octets: 16 << 20,
        max_flows: 1,
    };
    match Program::load(&settings) {
        Ok(program) => Some(program),
        Err(error) => {
            skip(&format!("needs root and a kernel with XDP: {error}"));
            None
        }
    }
}

/// What user space makes of the frame, with the kernel's time and headers.
fn expected(frame: &[u8], kernel: &Sample) -> Option<Sample> {
    let mut sample = parse(frame, frame.len() as u32)?;
    (sample.time, sample.headers) = (kernel.time, kernel.headers);
    Some(sample)
}

#[test]
fn crafted_frames_show_what_they_hold() {
    let Some(mut program) = program() else { return };
    for case in cases() {
        program.test_run("sampler", &case.octets, 1).unwrap();
        let mut got = None;
        let count = program.take(10, |sample, headers| {
            assert_eq!(headers, &case.octets[..case.octets.len().min(HEADERS)]);
            got = Some(*sample);
        });
        assert_eq!(count, usize::from(case.shows.is_some()), "{}", case.name);
        assert_eq!(got.as_ref().map(Shows::from), case.shows, "{}", case.name);
        if let Some(sample) = got {
            assert_eq!(
                Some(sample),
                expected(&case.octets, &sample),
                "{}",
                case.name
            );
            assert_eq!(sample.frame_octets as usize, case.octets.len());
            assert_eq!(
                [sample.destination_mac, sample.source_mac].concat(),
                frames::MACS
            );
            assert!(sample.time > 0);
        }
    }
    let totals = program.totals();
    assert_eq!(
        (totals.packets, totals.samples),
        (cases().len() as u64, cases().len() as u64)
    );
    assert_eq!((totals.without_ip, totals.cut, totals.ring_full), (2, 1, 0));
}

/// Each octet of each frame changed in some ways, and each frame cut everywhere.
#[test]
fn damaged_frames_are_read_alike() {
    let Some(mut program) = program() else { return };
    let mut judge = Judge::default();
    for case in cases() {
        let length = case.octets.len().min(HEADERS + 8);
        for place in 12..length {
            for change in [0x01, 0x80, 0x55, 0xff] {
                let mut octets = case.octets.clone();
                octets[place] ^= change;
                judge.run(&mut program, octets);
            }
            judge.run(&mut program, case.octets[..place.max(14)].to_vec());
        }
    }
    judge.settle(&mut program);
    assert!(judge.samples > 5_000, "{}", judge.samples);
}

#[test]
fn captures_are_read_alike() {
    let Some(files) = support::captures() else {
        eprintln!("skipped: no shared captures (WEIR_SHARED)");
        return;
    };
    let Some(mut program) = program() else { return };
    let mut judge = Judge::default();
    for file in &files {
        let mut capture = Capture::open(file).unwrap();
        while let Some(frame) = capture.next_frame() {
            // The kernel's test run wants an Ethernet header.
            if frame.link == LinkType::Ethernet && frame.octets.len() >= 14 {
                judge.run(&mut program, frame.octets);
            }
        }
        judge.settle(&mut program);
    }
    eprintln!(
        "{} files, {} frames, {} samples",
        files.len(),
        judge.frames,
        judge.samples
    );
    assert!(judge.samples > 100_000, "{}", judge.samples);
}

/// Compares in batches: each frame goes through both parsers.
#[derive(Default)]
struct Judge {
    pending: Vec<(Vec<u8>, Sample)>,
    frames: u64,
    samples: u64,
}

impl Judge {
    fn run(&mut self, program: &mut Program, frame: Vec<u8>) {
        program.test_run("sampler", &frame, 1).unwrap();
        self.frames += 1;
        if let Some(sample) = parse(&frame, frame.len() as u32) {
            self.pending.push((frame, sample));
        }
        if self.pending.len() >= PENDING {
            self.settle(program);
        }
    }

    fn settle(&mut self, program: &mut Program) {
        let mut waiting = self.pending.drain(..);
        let mut judged = 0;
        program.take(usize::MAX, |sample, headers| {
            judged += 1;
            let Some((frame, mut expected)) = waiting.next() else {
                panic!("a frame that only the kernel takes for IP: {headers:02x?}");
            };
            (expected.time, expected.headers) = (sample.time, sample.headers);
            assert_eq!(*sample, expected, "{frame:02x?}");
        });
        assert_eq!(
            waiting.count(),
            0,
            "frames that only user space takes for IP"
        );
        self.samples += judged;
    }
}
