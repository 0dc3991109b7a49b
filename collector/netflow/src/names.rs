//! Names that exporters state in options data: of interfaces, observation domains and applications.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::change::FieldSpecifier;
use crate::cursor::{Cursor, unsigned};
use crate::element as ie;
use crate::plan::VARIABLE;

const INTERFACE_NAME: u16 = 82;
const INTERFACE_DESCRIPTION: u16 = 83;
const APPLICATION_DESCRIPTION: u16 = 94;
const APPLICATION_ID: u16 = 95;
const APPLICATION_NAME: u16 = 96;
const OBSERVATION_DOMAIN_ID: u16 = 149;
const OBSERVATION_DOMAIN_NAME: u16 = 300;
/// RFC 3954 §6.1: the scope type Interface.
const SCOPE_INTERFACE: u16 = 2;

/// Octets of a name or description, at most; what is longer is cut.
const MOST_TEXT: usize = 64;
/// Statements that wait to be polled.
const MOST_STATEMENTS: usize = 4_096;

/// An exporter says what something of its is called. Exporters repeat this every few minutes, and so does
/// [`poll_name`](crate::Decoder::poll_name). Texts have 64 octets at most; empty = not said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NameStatement {
    /// An interface (IE 82, 83).
    Interface {
        /// Exporter.
        exporter: IpAddr,
        /// ifIndex.
        index: u32,
        /// Its name.
        name: String,
        /// Its description.
        description: String,
    },
    /// An observation domain (IE 300).
    Domain {
        /// Exporter.
        exporter: IpAddr,
        /// The domain.
        domain: u32,
        /// Its name.
        name: String,
    },
    /// An application (IE 94–96, RFC 6759).
    Application {
        /// Exporter.
        exporter: IpAddr,
        /// Classification engine in the first octet, selector behind it, as one number.
        application: u64,
        /// Its name.
        name: String,
        /// Its description.
        description: String,
    },
}

/// The queue of statements.
#[derive(Default)]
pub(crate) struct Names {
    queue: VecDeque<NameStatement>,
    pub(crate) dropped: u64,
}

impl Names {
    /// Reads the names out of a Set of options records, if its template has any.
    pub(crate) fn read(&mut self, layout: &Layout<'_>, whose: (IpAddr, u32), set: &[u8]) {
        if !layout.has_names() {
            return;
        }
        let mut cursor = Cursor::new(set);
        while cursor.remaining() > 0 {
            let before = cursor.remaining();
            match layout.record(&mut cursor) {
                Some(parts) => parts.statements(whose).for_each(|said| self.push(said)),
                None => return,
            }
            if cursor.remaining() == before {
                return;
            }
        }
    }

    pub(crate) fn poll(&mut self) -> Option<NameStatement> {
        self.queue.pop_front()
    }

    fn push(&mut self, said: NameStatement) {
        if self.queue.len() < MOST_STATEMENTS {
            self.queue.push_back(said);
        } else {
            self.dropped += 1;
        }
    }
}

/// What options records look like.
pub(crate) struct Layout<'a> {
    pub(crate) fields: &'a [FieldSpecifier],
    pub(crate) scope_fields: usize,
    pub(crate) netflow_v9: bool,
}

impl Layout<'_> {
    fn has_names(&self) -> bool {
        self.fields.iter().any(|field| {
            field.enterprise == 0
                && matches!(
                    field.element,
                    INTERFACE_NAME
                        | INTERFACE_DESCRIPTION
                        | APPLICATION_DESCRIPTION
                        | APPLICATION_NAME
                        | OBSERVATION_DOMAIN_NAME
                )
        })
    }

    fn record<'s>(&self, cursor: &mut Cursor<'s>) -> Option<Parts<'s>> {
        let mut parts = Parts::default();
        for (index, field) in self.fields.iter().enumerate() {
            let value = if field.length == VARIABLE && !self.netflow_v9 {
                cursor.variable_length()?
            } else {
                cursor.take(usize::from(field.length))?
            };
            if field.enterprise != 0 {
                continue;
            }
            match field.element {
                SCOPE_INTERFACE if self.netflow_v9 && index < self.scope_fields => {
                    parts.interface(value);
                }
                element => parts.take(element, value),
            }
        }
        Some(parts)
    }
}

/// What one options record says, as it comes.
#[derive(Default)]
struct Parts<'a> {
    interface: Option<u32>,
    domain: Option<u32>,
    application: Option<u64>,
    name: &'a [u8],
    description: &'a [u8],
    domain_name: &'a [u8],
    application_name: &'a [u8],
    application_description: &'a [u8],
}

impl<'a> Parts<'a> {
    fn take(&mut self, element: u16, value: &'a [u8]) {
        match element {
            ie::INGRESS_INTERFACE
            | ie::EGRESS_INTERFACE
            | ie::INGRESS_PHYSICAL_INTERFACE
            | ie::EGRESS_PHYSICAL_INTERFACE => self.interface(value),
            OBSERVATION_DOMAIN_ID => self.domain = u32::try_from(unsigned(value)).ok(),
            APPLICATION_ID if value.len() <= 8 => self.application = Some(unsigned(value)),
            INTERFACE_NAME => self.name = value,
            INTERFACE_DESCRIPTION => self.description = value,
            OBSERVATION_DOMAIN_NAME => self.domain_name = value,
            APPLICATION_NAME => self.application_name = value,
            APPLICATION_DESCRIPTION => self.application_description = value,
            _ => {}
        }
    }

    /// A record may name an interface both as scope and as field, and a physical one beside: the first counts.
    fn interface(&mut self, value: &[u8]) {
        let index = u32::try_from(unsigned(value)).ok();
        self.interface = self.interface.or(index.filter(|&index| index > 0));
    }

    fn statements(self, (exporter, domain): (IpAddr, u32)) -> impl Iterator<Item = NameStatement> {
        let said = |name: &[u8], description: &[u8]| {
            let (name, description) = (text(name), text(description));
            (!name.is_empty() || !description.is_empty()).then_some((name, description))
        };
        let interface = self.interface.zip(said(self.name, self.description));
        let application = self
            .application
            .zip(said(self.application_name, self.application_description));
        [
            interface.map(|(index, (name, description))| NameStatement::Interface {
                exporter,
                index,
                name,
                description,
            }),
            said(self.domain_name, &[]).map(|(name, _)| NameStatement::Domain {
                exporter,
                domain: self.domain.unwrap_or(domain),
                name,
            }),
            application.map(
                |(application, (name, description))| NameStatement::Application {
                    exporter,
                    application,
                    name,
                    description,
                },
            ),
        ]
        .into_iter()
        .flatten()
    }
}

/// The text up to its padding or another control character, as UTF-8 as well as it goes.
fn text(octets: &[u8]) -> String {
    let end = octets.iter().position(u8::is_ascii_control);
    let octets = octets.get(..end.unwrap_or(octets.len()).min(MOST_TEXT));
    let mut text = String::from_utf8_lossy(octets.unwrap_or_default()).into_owned();
    text.truncate(text.floor_char_boundary(MOST_TEXT));
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPORTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn fields(list: &[(u16, u16)]) -> Vec<FieldSpecifier> {
        let specifier = |&(element, length): &(u16, u16)| FieldSpecifier {
            element,
            length,
            enterprise: 0,
        };
        list.iter().map(specifier).collect()
    }

    fn read(names: &mut Names, list: &[(u16, u16)], netflow_v9: bool, set: &[u8]) {
        let layout = Layout {
            fields: &fields(list),
            scope_fields: 1,
            netflow_v9,
        };
        names.read(&layout, (EXPORTER, 5), set);
    }

    fn all(list: &[(u16, u16)], netflow_v9: bool, set: &[u8]) -> Vec<NameStatement> {
        let mut names = Names::default();
        read(&mut names, list, netflow_v9, set);
        std::iter::from_fn(|| names.poll()).collect()
    }

    fn interface(index: u32, name: &str, description: &str) -> NameStatement {
        NameStatement::Interface {
            exporter: EXPORTER,
            index,
            name: name.to_owned(),
            description: description.to_owned(),
        }
    }

    #[test]
    fn interfaces_are_named_by_v9s_scope_and_by_ipfixs_elements() {
        let v9 = [(2, 2), (82, 4), (83, 4)];
        let set = b"\0\x07Gi1\0up\0\0\0\x08Gi2\0\0\0\0\0\0\0\0";
        assert_eq!(
            all(&v9, true, set),
            [interface(7, "Gi1", "up"), interface(8, "Gi2", "")]
        );
        // Cisco repeats the interface as a field; in IPFIX element 2 is no interface.
        let ipfix = [(10, 4), (14, 4), (82, VARIABLE)];
        let set = b"\0\0\0\x07\0\0\0\x09\x03ge1\0\0\0\0\0\0\0\x09\x03ge2";
        assert_eq!(
            all(&ipfix, false, set),
            [interface(7, "ge1", ""), interface(9, "ge2", "")]
        );
        assert_eq!(all(&[(2, 2), (82, 1)], false, b"\0\x07a"), []);
    }

    #[test]
    fn domains_and_applications_are_named() {
        let domain = |domain, name: &str| NameStatement::Domain {
            exporter: EXPORTER,
            domain,
            name: name.to_owned(),
        };
        assert_eq!(
            all(&[(144, 1), (300, 2)], false, b"\x01lc"),
            [domain(5, "lc")]
        );
        assert_eq!(
            all(&[(149, 4), (300, 2)], false, b"\0\0\0\x09lc"),
            [domain(9, "lc")]
        );
        assert_eq!(
            all(&[(95, 4), (96, 3), (94, 2)], true, b"\x0d\0\0\x01bitp2"),
            [NameStatement::Application {
                exporter: EXPORTER,
                application: 0x0d00_0001,
                name: "bit".to_owned(),
                description: "p2".to_owned(),
            }]
        );
    }

    #[test]
    fn texts_are_clean_and_bounded() {
        assert_eq!(text(b"Te0/0/0/1 \0\0\0"), "Te0/0/0/1");
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
        assert!(text(&[0xff; 200]).len() <= MOST_TEXT);
        assert_eq!(text(&[b'x'; 200]).len(), MOST_TEXT);
    }

    #[test]
    fn cut_records_and_empty_ones_end_it() {
        assert_eq!(all(&[(2, 2), (82, 4)], true, b"\0\x07Gi"), []);
        assert_eq!(all(&[(2, 0), (82, 0)], true, b"\0\x07Gi"), []);
        assert_eq!(
            all(&[(10, 4), (82, VARIABLE)], false, b"\0\0\0\x07\xff"),
            []
        );
    }

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let mut names = Names::default();
        for _ in 0..MOST_STATEMENTS + 3 {
            read(&mut names, &[(2, 1), (82, 1)], true, b"\x07a");
        }
        assert_eq!(names.dropped, 3);
        assert_eq!(std::iter::from_fn(|| names.poll()).count(), MOST_STATEMENTS);
    }
}
