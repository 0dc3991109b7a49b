/* What of the kernel's interface the sampler uses: so that it builds without kernel headers and without libbpf.
 * Numbers are those of include/uapi/linux/bpf.h, which never change. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define always_inline static inline __attribute__((always_inline))

/* A map as its BTF describes it. */
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name

enum { BPF_MAP_TYPE_PERCPU_HASH = 5, BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_MAP_TYPE_RINGBUF = 27 };
enum { BPF_NOEXIST = 1 };
enum { BPF_RB_NO_WAKEUP = 1 };
enum { XDP_PASS = 2 };

struct xdp_md {
	u32 data;
	u32 data_end;
	u32 data_meta;
	u32 ingress_ifindex;
	u32 rx_queue_index;
	u32 egress_ifindex;
};

static void *(*map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*ktime_get_ns)(void) = (void *)5;
static u32 (*get_prandom_u32)(void) = (void *)7;
static long (*ringbuf_output)(void *ring, void *data, u64 size, u64 flags) = (void *)130;
static u64 (*xdp_get_buff_len)(struct xdp_md *packet) = (void *)188;
static long (*xdp_load_bytes)(struct xdp_md *packet, u32 offset, void *to, u32 length) = (void *)189;

#define swap16(value) __builtin_bswap16(value)
#define swap32(value) __builtin_bswap32(value)
