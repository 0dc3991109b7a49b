use std::fmt;

use crate::{Cuid, Mid, Sid, Tmid, Tsid};

/// A method that DOTS uses (RFC 9132 §3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Method {
    /// Reads, and observes.
    Get,
    /// Creates or replaces.
    Put,
    /// Ends.
    Delete,
}

impl Method {
    /// The name, as in `PUT`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A resource of the signal channel (RFC 9132 §4.2, RFC 9244 §6). A gateway's `cdid` is accepted and not kept: a server
/// ignores it from anyone but a trusted gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Resource {
    /// Mitigations: one, or all of a client.
    Mitigate {
        /// The client.
        cuid: Cuid,
        /// One of them.
        mid: Option<Mid>,
    },
    /// Telemetry before or during mitigation.
    Telemetry {
        /// The client.
        cuid: Cuid,
        /// One item.
        tmid: Option<Tmid>,
    },
    /// Telemetry configuration, pipe capacity, baseline.
    TelemetrySetup {
        /// The client.
        cuid: Cuid,
        /// One item.
        tsid: Option<Tsid>,
    },
    /// Session configuration.
    Config {
        /// One configuration.
        sid: Option<Sid>,
    },
    /// Heartbeats.
    Heartbeat,
}

/// Why a path names no resource.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// Not below `/.well-known/dots`, or no resource of that name: 4.04.
    #[error("no such resource")]
    Unknown,
    /// A parameter is missing: 4.00.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A parameter is empty, malformed, repeated, unknown or out of order: 4.00.
    #[error("`{0}` is not a parameter that may stand here")]
    Parameter(String),
}

impl Resource {
    /// Reads Uri-Path segments. The order of parameters is fixed (RFC 9132 §4.4.1, RFC 9244 §5).
    pub fn from_segments<'a>(
        mut segments: impl Iterator<Item = &'a str>,
    ) -> Result<Self, ResourceError> {
        if segments.next() != Some(".well-known") || segments.next() != Some("dots") {
            return Err(ResourceError::Unknown);
        }
        let name = segments.next().ok_or(ResourceError::Unknown)?;
        let mut parameters = Parameters {
            rest: segments.collect(),
        };
        let resource = match name {
            "mitigate" => Self::Mitigate {
                cuid: parameters.cuid()?,
                mid: parameters.number("mid")?.map(Mid),
            },
            "tm" => Self::Telemetry {
                cuid: parameters.cuid()?,
                tmid: parameters.number("tmid")?.map(Tmid),
            },
            "tm-setup" => Self::TelemetrySetup {
                cuid: parameters.cuid()?,
                tsid: parameters.number("tsid")?.map(Tsid),
            },
            "config" => Self::Config {
                sid: parameters.number("sid")?.map(Sid),
            },
            "hb" => Self::Heartbeat,
            _ => return Err(ResourceError::Unknown),
        };
        match parameters.rest.first() {
            None => Ok(resource),
            Some(extra) => Err(ResourceError::Parameter((*extra).to_owned())),
        }
    }

    /// Uri-Path segments.
    #[must_use]
    pub fn segments(&self) -> Vec<String> {
        let mut segments = vec![".well-known".to_owned(), "dots".to_owned()];
        let mut add = |name: &str, cuid: Option<&Cuid>, id: Option<(&str, u32)>| {
            segments.push(name.to_owned());
            segments.extend(cuid.map(|cuid| format!("cuid={}", cuid.as_str())));
            segments.extend(id.map(|(name, id)| format!("{name}={id}")));
        };
        match self {
            Self::Mitigate { cuid, mid } => {
                add("mitigate", Some(cuid), mid.map(|id| ("mid", id.0)))
            }
            Self::Telemetry { cuid, tmid } => add("tm", Some(cuid), tmid.map(|id| ("tmid", id.0))),
            Self::TelemetrySetup { cuid, tsid } => {
                add("tm-setup", Some(cuid), tsid.map(|id| ("tsid", id.0)))
            }
            Self::Config { sid } => add("config", None, sid.map(|id| ("sid", id.0))),
            Self::Heartbeat => add("hb", None, None),
        }
        segments
    }

    /// The path as text.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.segments().join("/"))
    }

    /// The client that the resource belongs to, where the path names one.
    #[must_use]
    pub fn cuid(&self) -> Option<&Cuid> {
        match self {
            Self::Mitigate { cuid, .. }
            | Self::Telemetry { cuid, .. }
            | Self::TelemetrySetup { cuid, .. } => Some(cuid),
            Self::Config { .. } | Self::Heartbeat => None,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

struct Parameters<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Parameters<'a> {
    /// The value of the next segment, if it is `name=…`.
    fn value(&mut self, name: &str) -> Result<Option<&'a str>, ResourceError> {
        let Some(value) = self
            .rest
            .first()
            .and_then(|s| s.strip_prefix(name))
            .and_then(|s| s.strip_prefix('='))
        else {
            return Ok(None);
        };
        let segment = self.rest.remove(0);
        if value.is_empty() {
            Err(ResourceError::Parameter(segment.to_owned()))
        } else {
            Ok(Some(value))
        }
    }

    fn cuid(&mut self) -> Result<Cuid, ResourceError> {
        self.value("cdid")?;
        let value = self.value("cuid")?.ok_or(ResourceError::Missing("cuid"))?;
        Cuid::new(value).map_err(|_| ResourceError::Parameter(format!("cuid={value}")))
    }

    fn number(&mut self, name: &'static str) -> Result<Option<u32>, ResourceError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        let number = value
            .bytes()
            .all(|octet| octet.is_ascii_digit())
            .then(|| value.parse().ok())
            .flatten();
        number
            .map(Some)
            .ok_or_else(|| ResourceError::Parameter(format!("{name}={value}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Result<Resource, ResourceError> {
        Resource::from_segments(path.trim_start_matches('/').split('/'))
    }

    #[test]
    fn paths_are_read_and_written() {
        for path in [
            "/.well-known/dots/mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw/mid=123",
            "/.well-known/dots/mitigate/cuid=dz6pHjaADkaFTbjr0JGBpw",
            "/.well-known/dots/tm/cuid=a/tmid=7",
            "/.well-known/dots/tm-setup/cuid=a/tsid=7",
            "/.well-known/dots/config/sid=4294967295",
            "/.well-known/dots/config",
            "/.well-known/dots/hb",
        ] {
            assert_eq!(read(path).unwrap().path(), path);
        }
    }

    #[test]
    fn a_gateways_cdid_is_accepted_in_its_place() {
        let path = "/.well-known/dots/mitigate/cdid=x/cuid=a/mid=1";
        assert_eq!(
            read(path).unwrap().path(),
            "/.well-known/dots/mitigate/cuid=a/mid=1"
        );
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "/",
            "/.well-known/core",
            "/.well-known/dots",
            "/.well-known/dots/migrate",
        ] {
            assert_eq!(read(path), Err(ResourceError::Unknown), "{path}");
        }
        assert_eq!(
            read("/.well-known/dots/mitigate"),
            Err(ResourceError::Missing("cuid"))
        );
        for path in [
            "/.well-known/dots/mitigate/cuid=",
            "/.well-known/dots/mitigate/cuid=a/mid=",
            "/.well-known/dots/mitigate/cuid=a/mid=+1",
            "/.well-known/dots/mitigate/cuid=a/mid=4294967296",
            "/.well-known/dots/mitigate/cuid=a/mid=1/mid=2",
            "/.well-known/dots/mitigate/cuid=a/tmid=1",
            "/.well-known/dots/hb/cuid=a",
        ] {
            assert!(
                matches!(read(path), Err(ResourceError::Parameter(_))),
                "{path}"
            );
        }
        // The order is fixed.
        assert_eq!(
            read("/.well-known/dots/mitigate/mid=1/cuid=a"),
            Err(ResourceError::Missing("cuid"))
        );
    }
}
