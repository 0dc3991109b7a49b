//! Reads sampled packet headers: the first octets of a frame in, fields out.
