//! Names of interfaces from options data.

mod common;

use common::{Bytes, decode, decoder, ipfix};
use weir_netflow::NameStatement;

fn options() -> (Bytes, Bytes) {
    let template = Bytes::default().set(3, &Bytes::default().u16s(&[999, 2, 1, 10, 4, 82, 65_535]));
    let data = Bytes::default().set(999, &Bytes::default().u32(7).u8(5).raw(b"xe-07"));
    (template, data)
}

fn said() -> NameStatement {
    NameStatement::Interface {
        exporter: common::from(0).ip(),
        index: 7,
        name: "xe-07".to_owned(),
        description: String::new(),
    }
}

#[test]
fn an_interfaces_name_is_told_whenever_it_is_stated() {
    let (template, data) = options();
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &template));
    assert_eq!(decoder.poll_name(), None);
    for sequence in 0..2 {
        let (outcome, _) = decode(&mut decoder, 0, 1, &ipfix(1, sequence, &data));
        assert_eq!((outcome.options_records, outcome.undecodable_sets), (1, 0));
        assert_eq!(decoder.poll_name(), Some(said()));
        assert_eq!(decoder.poll_name(), None);
    }
}

#[test]
fn a_name_that_came_before_its_template_is_told_too() {
    let (template, data) = options();
    let mut decoder = decoder();
    decode(&mut decoder, 0, 1, &ipfix(1, 0, &data));
    assert_eq!(decoder.poll_name(), None);
    decode(&mut decoder, 0, 1, &ipfix(1, 1, &template));
    assert_eq!(decoder.poll_name(), Some(said()));
}
