//! A redirection in place of a notification (RFC 9132 §4.6: "in a unidirectional notification response").
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use support::{World, attack, event};
use weir_attack_event::EventKind;
use weir_dots_export::{ClientCommand, ClientNotice, mitigation_scope};
use weir_dots_proto::body::{Body, Lifetime, Redirect};
use weir_dots_proto::cbor;
use weir_dots_proto::coap::{Code, Kind, Message, Token, option};

/// Carries datagrams to and fro; the token of the last registration.
fn exchange(world: &mut World) -> Option<Token> {
    let mut observed = None;
    loop {
        let mut quiet = true;
        while let Some(change) = world.client.poll_persist() {
            quiet = false;
            world.client.handle_persisted(world.now, change.id);
        }
        while let Some(datagram) = world.client.poll_transmit() {
            quiet = false;
            let message = Message::decode(&datagram).unwrap();
            if message.code == Code::GET && message.number(option::OBSERVE) == Some(0) {
                observed = Some(message.token);
            }
            world.peer.handle_datagram(world.now, &datagram);
        }
        while let Some(datagram) = world.peer.session.poll_transmit() {
            quiet = false;
            world.client.handle_datagram(world.now, &datagram);
        }
        if quiet {
            return observed;
        }
    }
}

#[test]
fn a_notification_may_lead_to_another_server() {
    let mut world = World::new();
    world.client.handle_server("dots.example");
    world.client.handle_connected(world.now);
    let start = event(EventKind::AttackStart, "a", "203.0.113.7/32", 1_700_000_001);
    let request = ClientCommand::Request {
        attack: attack("a"),
        scope: Box::new(mitigation_scope(&start)),
        lifetime: Lifetime::Seconds(3600),
    };
    world.client.handle_command(world.now, request);
    let token = exchange(&mut world).expect("the mitigation is observed");
    while world.client.poll_notice().is_some() {}
    assert_eq!(world.client.alternate(), None);

    let redirect = Redirect {
        alt_server: Some("alt.example".to_owned()),
        alt_server_record: vec!["2001:db8:6401::1".parse().unwrap()],
        ..Redirect::default()
    };
    let code = Code::SERVICE_UNAVAILABLE;
    let mut message = Message::new(Kind::NonConfirmable, code, 4711, token);
    message.push_option(option::CONTENT_FORMAT, option::octets(option::DOTS_CBOR));
    message.push_option(option::MAX_AGE, option::octets(120));
    message.payload = cbor::encode(&redirect.to_json()).unwrap();
    world
        .client
        .handle_datagram(world.now, &message.to_octets());
    let notice = world.client.poll_notice();
    let Some(ClientNotice::Redirected {
        server,
        max_age,
        followed,
        ..
    }) = notice
    else {
        panic!("{notice:?}")
    };
    assert_eq!(
        (server.as_str(), max_age, followed),
        ("alt.example", 120, true)
    );
    let alternate = world.client.alternate().unwrap();
    assert_eq!(alternate.addresses, redirect.alt_server_record);

    // The other server is told all that is open.
    world.client.handle_disconnected(world.now);
    world.client.handle_server("alt.example");
    world.peer = support::Peer::default();
    world.client.handle_connected(world.now);
    exchange(&mut world);
    assert_eq!(world.peer.active().len(), 1, "{:?}", world.peer.log);
    // Its time is over, but the attack is not.
    world.now += Duration::from_secs(121);
    world.client.handle_timeout(world.now);
    exchange(&mut world);
    assert!(world.client.alternate().is_some());
    let attack = attack("a");
    world
        .client
        .handle_command(world.now, ClientCommand::Withdraw { attack });
    exchange(&mut world);
    assert_eq!(world.client.alternate(), None);
    assert!(world.peer.active().is_empty());
}
