/* What kernel and user space share: src/layout.rs says the same in Rust, and a test holds the sizes together. Integers are in
 * host order. */
#pragma once

#include "bpf.h"

/* Octets of a frame that are looked at: Ethernet, two VLAN tags, IPv6 with extension headers and TCP fit. */
#define HEADERS 128

enum { PRESENT_VLAN = 1, PRESENT_ICMP = 2 };
enum { FRAGMENT_FIRST = 1, FRAGMENT_NOT_FIRST = 2 };

/* One packet. */
struct sample {
	u64 time; /* CLOCK_MONOTONIC, ns */
	u8 source[16]; /* IPv4 as ::ffff:a.b.c.d */
	u8 destination[16];
	u32 octets; /* of the IP packet */
	u32 frame_octets; /* of the frame, without checksum */
	u32 flow_label;
	u16 source_port;
	u16 destination_port;
	u16 tcp_flags;
	u16 vlan_id; /* of the outermost tag */
	u8 protocol;
	u8 tos;
	u8 ttl;
	u8 fragment;
	u8 icmp_type;
	u8 icmp_code;
	u8 present;
	u8 headers; /* octets of the frame that follow */
	u8 destination_mac[6];
	u8 source_mac[6];
};

/* What a flow is counted by. */
struct flow_key {
	u8 source[16];
	u8 destination[16];
	u16 source_port;
	u16 destination_port;
	u16 vlan_id;
	u8 protocol;
	u8 fragment;
	u8 tos;
	u8 icmp_type;
	u8 icmp_code;
	u8 present;
	u32 pad;
};

struct flow {
	u64 packets;
	u64 octets; /* of IP packets */
	u64 first; /* CLOCK_MONOTONIC, ns */
	u64 last;
	u16 tcp_flags; /* of all packets, or-ed */
	u8 ttl; /* of the first packet */
	u8 pad[5];
};

/* Per CPU, exact. */
struct totals {
	u64 packets;
	u64 octets; /* of frames */
	u64 samples; /* of packets whose turn it was */
	u64 without_ip; /* of those, or of all packets in exact mode, that carry no IP */
	u64 cut; /* that went on behind the octets which are looked at, before the transport header was read */
	u64 ring_full; /* samples for which the ring had no room */
	u64 refused_packets; /* for whose flow the table had no room */
	u64 refused_octets;
	u64 until_next; /* packets until the next sample */
};
