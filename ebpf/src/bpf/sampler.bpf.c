/* The packet sampler: counts every packet, hands one in `sample_one_in` to user space, and, in exact mode, counts all by flow.
 * It lets every packet pass. */
#include "bpf.h"
#include "layout.h"
#include "log.h"
#include "parse.h"

/* Set when the program is loaded. */
const volatile u32 sample_one_in = 100; /* 0 = no samples */
const volatile u8 with_headers = 0; /* samples carry the frame's first octets */
const volatile u8 exact = 0; /* flows are counted */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} SAMPLES SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct totals);
} TOTALS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 131072);
	__type(key, struct flow_key);
	__type(value, struct flow);
} FLOWS SEC(".maps");

/* A sample as the ring takes it, and room for reads behind a cut header. */
struct workspace {
	struct sample sample;
	u8 octets[HEADERS + SLACK];
	u32 memory[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct workspace);
} WORKSPACE SEC(".maps");

/* Gaps between samples are even between 1 and 2N − 1, so N in the mean, and no period of the traffic can agree with them. */
always_inline int is_due(struct totals *totals)
{
	u32 one_in = sample_one_in;
	if (one_in <= 1)
		return one_in;
	if (totals->until_next > 1) {
		totals->until_next--;
		return 0;
	}
	totals->until_next = get_prandom_u32() % (2 * one_in - 1) + 1;
	return 1;
}

always_inline void count_flow(struct totals *totals, const struct sample *sample)
{
	struct flow_key key = {
		.source_port = sample->source_port,
		.destination_port = sample->destination_port,
		.vlan_id = sample->vlan_id,
		.protocol = sample->protocol,
		.fragment = sample->fragment,
		.tos = sample->tos,
		.icmp_type = sample->icmp_type,
		.icmp_code = sample->icmp_code,
		.present = sample->present,
	};
	copy16(key.source, sample->source);
	copy16(key.destination, sample->destination);
	struct flow *flow = map_lookup_elem(&FLOWS, &key);
	if (flow && flow->packets) {
		flow->packets++;
		flow->octets += sample->octets;
		flow->last = sample->time;
		flow->tcp_flags |= sample->tcp_flags;
		return;
	}
	struct flow first = {
		.packets = 1,
		.octets = sample->octets,
		.first = sample->time,
		.last = sample->time,
		.tcp_flags = sample->tcp_flags,
		.ttl = sample->ttl,
	};
	if (flow) {
		/* Another CPU has it already; here it is zeros. */
		*flow = first;
	} else if (map_update_elem(&FLOWS, &key, &first, BPF_NOEXIST) != 0) {
		/* Full, or another CPU was quicker. */
		flow = map_lookup_elem(&FLOWS, &key);
		if (flow) {
			*flow = first;
			return;
		}
		totals->refused_packets++;
		totals->refused_octets += sample->octets;
		log_count("the flow table is full; packets not counted by flow:    ", totals->refused_packets);
	}
}

always_inline void clear(struct sample *sample)
{
	u64 *words = (u64 *)sample;
	for (u32 word = 0; word < sizeof(*sample) / 8; word++)
		words[word] = 0;
}

/* Copies the frame's first octets to where they can be read by offset; how many. Nearly every frame of more than HEADERS octets
 * has them in one piece, and then no call is needed. */
always_inline u32 copy_headers(struct xdp_md *packet, struct workspace *space, u64 frame_octets)
{
	const u8 *data = (const u8 *)(long)packet->data;
	const u8 *end = (const u8 *)(long)packet->data_end;
	if (data + HEADERS <= end) {
		for (u32 at = 0; at < HEADERS; at += 16)
			copy16(space->octets + at, data + at);
		return HEADERS;
	}
	u32 length = frame_octets < HEADERS ? frame_octets : HEADERS;
	/* The compiler knows; the verifier wants to see it. */
	asm volatile("" : "+r"(length));
	if (length == 0 || length > HEADERS || xdp_load_bytes(packet, 0, space->octets, length) != 0)
		return 0;
	return length;
}

SEC("xdp.frags")
int sampler(struct xdp_md *packet)
{
	u32 zero = 0;
	struct totals *totals = map_lookup_elem(&TOTALS, &zero);
	if (!totals)
		return XDP_PASS;
	u64 frame_octets = xdp_get_buff_len(packet);
	totals->packets++;
	totals->octets += frame_octets;
	int due = is_due(totals);
	if (!due && !exact)
		return XDP_PASS;

	struct workspace *space = map_lookup_elem(&WORKSPACE, &zero);
	if (!space)
		return XDP_PASS;
	u32 length = copy_headers(packet, space, frame_octets);
	if (length == 0)
		return XDP_PASS;
	struct sample *sample = &space->sample;
	clear(sample);
	sample->time = ktime_get_ns();
	sample->frame_octets = frame_octets;
	totals->samples += due;
	struct frame frame = {space->octets, length, 0, 0, space->memory};
	int is_ip = parse(&frame, sample);
	forget(&frame);
	if (frame.cut && frame_octets > HEADERS)
		totals->cut++;
	if (!is_ip) {
		totals->without_ip++;
		return XDP_PASS;
	}
	if (exact)
		count_flow(totals, sample);
	if (!due)
		return XDP_PASS;
	u64 size = sizeof(*sample);
	if (with_headers) {
		sample->headers = length;
		size += length;
	}
	if (ringbuf_output(&SAMPLES, space, size, BPF_RB_NO_WAKEUP) != 0) {
		totals->ring_full++;
		log_count("the ring is full; samples lost:                         ", totals->ring_full);
	}
	return XDP_PASS;
}

/* What benches compare with. */
SEC("xdp")
int empty(struct xdp_md *packet)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
