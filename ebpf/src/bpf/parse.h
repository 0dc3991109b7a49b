/* Reads a frame's headers. The Rust parser (weir-packet) is the reference: a test compares both, field by field, on whole
 * captures. Where the octets end, what lies behind is absent. */
#pragma once

#include "layout.h"

/* Octets behind HEADERS that reads of a cut header may touch; they never count. */
#define SLACK 64

struct frame {
	const u8 *octets; /* HEADERS + SLACK of them */
	u32 length; /* how many are real, at most HEADERS */
	u32 at;
	u8 cut;
	volatile u32 *memory; /* three words of a map; see forget */
};

/* Hides from the verifier by which way the parser came here: what lies in a map it does not know, so that it goes on once for all
 * ways instead of once for each. */
always_inline void forget(struct frame *frame)
{
	frame->memory[0] = frame->at;
	frame->memory[1] = frame->length;
	frame->memory[2] = frame->cut;
	frame->at = frame->memory[0];
	frame->length = frame->memory[1];
	frame->cut = frame->memory[2];
}

/* Where the next `size` octets are, or 0 if they are not all there. The mask shows the verifier a bound in every kernel. */
always_inline const u8 *take(struct frame *frame, u32 size)
{
	u32 at = frame->at;
	if (at + size > frame->length) {
		frame->cut = 1;
		return 0;
	}
	asm volatile("%0 &= 127" : "+r"(at));
	frame->at = at + size;
	return frame->octets + at;
}

always_inline u16 read16(const u8 *at)
{
	return swap16(*(const u16 *)at);
}

always_inline void copy16(u8 *to, const u8 *from)
{
	((u64 *)to)[0] = ((const u64 *)from)[0];
	((u64 *)to)[1] = ((const u64 *)from)[1];
}

always_inline u8 fragment_kind(u16 offset, u16 more)
{
	return offset ? FRAGMENT_NOT_FIRST : more ? FRAGMENT_FIRST : 0;
}

enum { IPV4 = 0x0800, VLAN = 0x8100, IPV6 = 0x86dd, MPLS = 0x8847, MPLS_UPSTREAM = 0x8848, PPPOE = 0x8864, QINQ = 0x88a8, OLD_QINQ = 0x9100 };
enum { HOP_BY_HOP = 0, ICMP = 1, TCP = 6, UDP = 17, DCCP = 33, ROUTING = 43, FRAGMENT = 44, AUTHENTICATION = 51, ICMPV6 = 58, DESTINATION = 60, SCTP = 132, UDP_LITE = 136 };

/* RFC 3032 §2.1: whether IP lies below the labels. */
always_inline int below_labels(struct frame *frame)
{
	for (int label = 0; label < HEADERS / 4; label++) {
		forget(frame);
		const u8 *entry = take(frame, 4);
		if (!entry)
			return 0;
		if (entry[2] & 1)
			return 1;
	}
	return 0;
}

/* RFC 1661 §2, RFC 1662 §3.1: address and control may be left out, and the protocol's first octet too. */
always_inline int below_ppp(struct frame *frame)
{
	u32 start = frame->at;
	const u8 *octets = take(frame, 2);
	if (octets && octets[0] == 0xff && octets[1] == 3)
		start = frame->at;
	frame->at = start;
	octets = take(frame, 1);
	if (!octets)
		return 0;
	u16 protocol = octets[0];
	if (!(protocol & 1)) {
		octets = take(frame, 1);
		if (!octets)
			return 0;
		protocol = protocol << 8 | octets[0];
	}
	if (protocol == 0x0281)
		return below_labels(frame);
	return protocol == 0x0021 || protocol == 0x0057;
}

/* Goes to where IP begins; 0 if it does not. */
always_inline int read_link(struct frame *frame, struct sample *sample)
{
	const u8 *macs = take(frame, 12);
	if (!macs)
		return 0;
	__builtin_memcpy(sample->destination_mac, macs, 6);
	__builtin_memcpy(sample->source_mac, macs + 6, 6);
	const u8 *octets = take(frame, 2);
	if (!octets)
		return 0;
	u16 type = read16(octets);
	for (int tag = 0; tag < HEADERS / 4 && (type == VLAN || type == QINQ || type == OLD_QINQ); tag++) {
		forget(frame);
		octets = take(frame, 4);
		if (!octets)
			return 0;
		if (!(sample->present & PRESENT_VLAN)) {
			sample->present |= PRESENT_VLAN;
			sample->vlan_id = read16(octets) & 0xfff;
		}
		type = read16(octets + 2);
	}
	switch (type) {
	case IPV4:
	case IPV6:
		return 1;
	case MPLS:
	case MPLS_UPSTREAM:
		return below_labels(frame);
	case PPPOE:
		return take(frame, 6) && below_ppp(frame);
	}
	return 0;
}

/* RFC 791 §3.1; whether the transport header follows. */
always_inline int read_v4(struct frame *frame, struct sample *sample, const u8 *header)
{
	u16 fragment = read16(header + 6);
	sample->source[10] = sample->source[11] = 0xff;
	sample->destination[10] = sample->destination[11] = 0xff;
	__builtin_memcpy(sample->source + 12, header + 12, 4);
	__builtin_memcpy(sample->destination + 12, header + 16, 4);
	sample->tos = header[1];
	sample->octets = read16(header + 2);
	sample->ttl = header[8];
	sample->protocol = header[9];
	sample->fragment = fragment_kind(fragment & 0x1fff, fragment & 0x2000);
	u32 length = (header[0] & 15) * 4;
	return length >= 20 && take(frame, length - 20) && sample->fragment != FRAGMENT_NOT_FIRST;
}

/* RFC 8200 §4: each header names the next and takes eight octets at least, which bounds their number. */
always_inline int skip_extensions(struct frame *frame, struct sample *sample)
{
	for (int header = 0; header < HEADERS / 8; header++) {
		forget(frame);
		u32 start = frame->at, length = 8;
		switch (sample->protocol) {
		case HOP_BY_HOP:
		case ROUTING:
		case DESTINATION:
		case AUTHENTICATION:
		case FRAGMENT:
			break;
		default:
			return 1;
		}
		const u8 *octets = take(frame, 8);
		if (!octets)
			return 0;
		if (sample->protocol == FRAGMENT) {
			u16 field = read16(octets + 2);
			sample->fragment = fragment_kind(field >> 3, field & 1);
		} else if (sample->protocol == AUTHENTICATION) {
			/* RFC 4302 §2.2: in words of four octets, less two. */
			length = octets[1] * 4 + 8;
		} else {
			length = octets[1] * 8 + 8;
		}
		frame->at = start;
		if (!take(frame, length))
			return 0;
		sample->protocol = octets[0];
		if (sample->fragment == FRAGMENT_NOT_FIRST)
			return 0;
	}
	return 1;
}

/* RFC 8200 §3; whether the transport header follows. */
always_inline int read_v6(struct frame *frame, struct sample *sample, const u8 *header)
{
	u32 word = swap32(*(const u32 *)header);
	sample->tos = word >> 20;
	sample->flow_label = word & 0xfffff;
	u16 payload = read16(header + 4);
	sample->octets = payload ? payload + 40 : 0;
	sample->protocol = header[6];
	sample->ttl = header[7];
	copy16(sample->source, header + 8);
	copy16(sample->destination, header + 24);
	return skip_extensions(frame, sample);
}

always_inline void read_transport(struct frame *frame, struct sample *sample)
{
	const u8 *octets;
	switch (sample->protocol) {
	case TCP:
	case UDP:
	case UDP_LITE:
	case SCTP:
	case DCCP:
		octets = take(frame, 4);
		if (!octets)
			return;
		sample->source_port = read16(octets);
		sample->destination_port = read16(octets + 2);
		if (sample->protocol != TCP)
			return;
		octets = take(frame, 10);
		if (octets)
			sample->tcp_flags = read16(octets + 8) & 0x1ff;
		return;
	case ICMP:
	case ICMPV6:
		octets = take(frame, 2);
		if (!octets)
			return;
		sample->present |= PRESENT_ICMP;
		sample->icmp_type = octets[0];
		sample->icmp_code = octets[1];
	}
}

/* Fills in what the frame shows; whether it carries IP. */
always_inline int parse(struct frame *frame, struct sample *sample)
{
	if (!read_link(frame, sample))
		return 0;
	forget(frame);
	u32 network = frame->at;
	const u8 *header = take(frame, 1);
	if (!header)
		return 0;
	u8 version = header[0] >> 4;
	frame->at = network;
	int more;
	if (version == 4) {
		header = take(frame, 20);
		if (!header)
			return 0;
		more = read_v4(frame, sample, header);
	} else if (version == 6) {
		header = take(frame, 40);
		if (!header)
			return 0;
		more = read_v6(frame, sample, header);
	} else {
		return 0;
	}
	forget(frame);
	if (more)
		read_transport(frame, sample);
	/* Segmentation offload and jumbograms (RFC 2675) leave the length to the frame. */
	if (!sample->octets && sample->frame_octets > network)
		sample->octets = sample->frame_octets - network;
	return 1;
}
