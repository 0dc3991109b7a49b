//! weir-attack-event
