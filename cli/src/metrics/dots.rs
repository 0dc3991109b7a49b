//! Sessions with upstreams, the transports of our own DOTS server, and until when certificates are good.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use weir_dots_server::{MitigatorFigures, TransportFigures};
use weir_dtls::Validity;

use super::{counter, gauge};
use crate::views::Views;

/// The upstream that stands for our own server in `weir_dots_certificate_expiry_seconds`.
const OWN: &str = "";

/// All of it.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, views: &Views) -> fmt::Result {
    let server = views.dots_server();
    let mut family = encoder.encode_descriptor(
        "weir_dots_session_up",
        "1 while a session with the upstream stands",
        None,
        MetricType::Gauge,
    )?;
    for (upstream, up) in views.sessions() {
        ConstGauge::new(i64::from(up)).encode(family.encode_family(&[("upstream", upstream)])?)?;
    }
    encode_policy(encoder, views)?;
    encode_redirects(encoder, views)?;
    encode_mitigators(encoder, &views.mitigators())?;
    let mut validities = views.validities();
    if let Some(figures) = &server {
        validities.push((OWN.to_owned(), figures.validity));
    }
    encode_validities(
        encoder,
        "weir_dots_certificate_expiry_seconds",
        "When the certificate for an upstream, or of our own DOTS server, ends: seconds since 1970",
        &validities,
        |validity| validity.certificate,
    )?;
    encode_validities(
        encoder,
        "weir_dots_crl_expiry_seconds",
        "When the revocation lists want to be replaced, after which no peer is let in: seconds since 1970",
        &validities,
        |validity| validity.revocations,
    )?;
    match server {
        Some(figures) => encode_server(encoder, &figures),
        None => Ok(()),
    }
}

fn encode_policy(encoder: &mut DescriptorEncoder<'_>, views: &Views) -> fmt::Result {
    let counters = views.policy().counters;
    for (name, help, value) in [
        (
            "weir_policy_refused_events",
            "Attacks beyond those that can be followed at once, and smaller ones that gave way",
            counters.refused_events,
        ),
        (
            "weir_policy_superseded_telemetry",
            "Telemetry that gave way to a newer message before it was due",
            counters.superseded_telemetry,
        ),
        (
            "weir_policy_fallbacks",
            "Requests that went to the next upstream",
            counters.fallbacks,
        ),
        (
            "weir_policy_lost_decisions",
            "Lines of the audit log that found no room",
            counters.lost_decisions,
        ),
    ] {
        counter(encoder, name, help, value)?;
    }
    counter(
        encoder,
        "weir_detector_refused_series",
        "Targets that the detector had no room for",
        views.counters.refused_series.load(Ordering::Relaxed),
    )
}

fn encode_redirects(encoder: &mut DescriptorEncoder<'_>, views: &Views) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "weir_dots_redirects",
        "Redirections by the upstream to another server, those that lead back in a circle not followed",
        None,
        MetricType::Counter,
    )?;
    for (upstream, [followed, loops]) in views.redirects() {
        for (word, count) in [("true", followed), ("false", loops)] {
            let labels = [("upstream", upstream.as_str()), ("followed", word)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_mitigators(
    encoder: &mut DescriptorEncoder<'_>,
    mitigators: &[MitigatorFigures],
) -> fmt::Result {
    type Read = fn(&MitigatorFigures) -> u64;
    let counters: [(&str, &str, Read); 4] = [
        (
            "weir_dots_mitigator_applied",
            "Mitigations that a back end was told to filter",
            |one| one.applied,
        ),
        (
            "weir_dots_mitigator_withdrawn",
            "Mitigations that a back end was told to end",
            |one| one.withdrawn,
        ),
        (
            "weir_dots_mitigator_failed",
            "Mitigations that a back end was not able to filter",
            |one| one.failed,
        ),
        (
            "weir_dots_mitigator_refused",
            "Mitigations that a back end was not told of: it had too many, or was gone",
            |one| one.refused,
        ),
    ];
    for (name, help, read) in counters {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for one in mitigators {
            let labels = [("mitigator", one.name.as_str())];
            ConstCounter::new(read(one)).encode(family.encode_family(&labels)?)?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "weir_dots_mitigator_busy_seconds",
        "Time that a back end took",
        None,
        MetricType::Counter,
    )?;
    for one in mitigators {
        let labels = [("mitigator", one.name.as_str())];
        ConstCounter::new(one.busy.as_secs_f64()).encode(family.encode_family(&labels)?)?;
    }
    let mut family = encoder.encode_descriptor(
        "weir_dots_mitigator_held",
        "Mitigations that a back end holds",
        None,
        MetricType::Gauge,
    )?;
    for one in mitigators {
        let labels = [("mitigator", one.name.as_str())];
        let held = i64::try_from(one.held).unwrap_or(i64::MAX);
        ConstGauge::new(held).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_validities(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    validities: &[(String, Validity)],
    end: impl Fn(&Validity) -> Option<i64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (upstream, validity) in validities {
        if let Some(seconds) = end(validity) {
            let labels = [("upstream", upstream.as_str())];
            ConstGauge::new(seconds).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_server(encoder: &mut DescriptorEncoder<'_>, figures: &TransportFigures) -> fmt::Result {
    for (name, help, value) in [
        (
            "weir_dots_server_datagram_sessions",
            "DTLS sessions and handshakes now",
            figures.datagram_sessions,
        ),
        (
            "weir_dots_server_stream_sessions",
            "Connections of TLS over TCP now",
            figures.stream_sessions,
        ),
    ] {
        gauge(encoder, name, help, value)?;
    }
    for (name, help, value) in [
        (
            "weir_dots_server_sessions",
            "Sessions that came about",
            figures.connected,
        ),
        (
            "weir_dots_server_failed_handshakes",
            "Handshakes that failed",
            figures.failed,
        ),
        (
            "weir_dots_server_refused_handshakes",
            "Handshakes that found no room",
            figures.refused,
        ),
        (
            "weir_dots_server_unverified_hellos",
            "ClientHellos without a valid cookie",
            figures.unverified,
        ),
        (
            "weir_dots_server_forgotten_telemetry",
            "Telemetry that gave way to newer, since its client had too much of it",
            figures.forgotten_telemetry,
        ),
        (
            "weir_dots_server_forgotten_reports",
            "What clients said of attacks that gave way to newer, since there was too much of it",
            figures.forgotten_reports,
        ),
        (
            "weir_dots_server_credential_reloads",
            "How often certificates, keys and revocation lists were read again",
            figures.reloads,
        ),
        (
            "weir_dots_server_failed_credential_reloads",
            "How often that failed",
            figures.failed_reloads,
        ),
    ] {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}
