use super::*;

fn check(collector: &str, exporters: &[&str]) -> Result<CollectorSettings, Vec<String>> {
    let collector: CollectorConfig = toml::from_str(collector).expect("TOML");
    let exporters: Vec<ExporterConfig> = exporters
        .iter()
        .map(|text| toml::from_str(text).expect("TOML"))
        .collect();
    collector
        .check(&exporters, ColumnSet::NONE)
        .map_err(|faults| faults.into_iter().map(|fault| fault.path).collect())
}

#[test]
fn exporters_inherit_caps_and_silence_and_override_them() {
    let settings = check(
        "max_records_per_second = \"100k\"\nmax_datagrams_per_second = 5000",
        &[
            "address = \"192.0.2.1\"\nmax_records_per_second = 0\nsilent_after = \"30s\"",
            "address = \"192.0.2.0/24\"\nmax_datagrams_per_second = \"1k\"",
        ],
    )
    .unwrap();
    let of = |rule: &ExporterRule| {
        let RateCaps {
            records_per_second,
            datagrams_per_second,
        } = rule.caps;
        (records_per_second, datagrams_per_second, rule.silent_after)
    };
    assert_eq!(of(&settings.rules[0]), (0, 5_000, Duration::from_secs(30)));
    assert_eq!(
        of(&settings.rules[1]),
        (100_000, 1_000, Duration::from_secs(300))
    );
    assert_eq!(settings.trust().default.records_per_second, 100_000);
    assert_eq!(settings.silence().default, Duration::from_secs(300));
}

#[test]
fn every_mistake_is_told_with_its_path() {
    let faults = check(
        "max_streams = 0\nmax_streams_per_address = 0\nstream_idle = \"1s\"\nsilent_after = \"1ms\"\n\
         ipfix_tcp = [\"[::]:4739\", \"[::]:4739\"]\n[ipfix_tls]\nlisten = [\"[::]:4739\"]\nca = \"ca.pem\"",
        &["address = \"192.0.2.1\"\nsilent_after = \"1ms\"", "address = \"here\""],
    )
    .unwrap_err();
    assert_eq!(
        faults,
        [
            "exporter[0].silent_after",
            "exporter[1].address",
            "collector.silent_after",
            "collector.max_streams",
            "collector.max_streams_per_address",
            "collector.stream_idle",
            "collector.ipfix_tcp",
            "collector.ipfix_tls",
            "collector.ipfix_tls",
            "collector.ipfix_tls.listen",
        ]
    );
}

#[test]
fn the_table_for_tls_is_read_and_its_files_are_found_beside_the_configuration() {
    let text = "[ipfix_tls]\nlisten = [\"[::]:4740\"]\nca = \"ca.pem\"\n\
                certificate = \"/etc/weir/server.pem\"\nkey = \"server.key\"";
    let mut config: CollectorConfig = toml::from_str(text).unwrap();
    config.resolve(Path::new("/etc/weir"));
    let settings = config.check(&[], ColumnSet::NONE).unwrap();
    let tls = settings.streams.tls.unwrap();
    assert_eq!(tls.ca, Path::new("/etc/weir/ca.pem"));
    assert_eq!(tls.certificate, Path::new("/etc/weir/server.pem"));
    // What is printed is read again.
    let dumped = toml::to_string(&config).unwrap();
    let again: CollectorConfig = toml::from_str(&dumped).unwrap();
    assert_eq!(again.ipfix_tls, config.ipfix_tls);
}
