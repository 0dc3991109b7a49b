//! Decodes sFlow v5: datagrams in, rows of a [`FlowBatch`](weir_flow_record::FlowBatch) out.
