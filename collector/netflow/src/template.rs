use weir_flow_record::ColumnSet;

use crate::change::{FieldSpecifier, TemplateDefinition};
use crate::cursor::Cursor;
use crate::plan::RowPlan;
use crate::sampling::OptionsPlan;

/// A template as it came and as it is used.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) definition: TemplateDefinition,
    pub(crate) plan: Plan,
}

/// What to do with a template's records.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all templates are of flows, and each is allocated once"
)]
pub(crate) enum Plan {
    Flows(RowPlan),
    Options(OptionsPlan),
}

impl Template {
    pub(crate) fn compile(definition: TemplateDefinition, columns: ColumnSet) -> Self {
        let TemplateDefinition {
            netflow_v9,
            scope_fields,
            fields,
        } = &definition;
        let plan = match *scope_fields {
            None => Plan::Flows(RowPlan::compile(fields, *netflow_v9, columns)),
            Some(scope) => Plan::Options(OptionsPlan::compile(fields, scope, *netflow_v9)),
        };
        Self { definition, plan }
    }

    /// Octets that it occupies, about.
    pub(crate) fn memory(&self) -> usize {
        let plan = match &self.plan {
            Plan::Flows(plan) => plan.memory(),
            Plan::Options(_) => size_of::<OptionsPlan>(),
        };
        plan + size_of::<Self>() + self.definition.fields.capacity() * size_of::<FieldSpecifier>()
    }
}

/// One record of a Template Set or Options Template Set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TemplateRecord {
    /// The fields stand in the buffer given.
    Definition { id: u16, scope_fields: Option<u16> },
    /// IPFIX: a field count of 0 (RFC 7011 §8.1).
    Withdrawal { id: u16 },
}

/// The records of a Set, one by one.
pub(crate) struct TemplateRecords<'a> {
    cursor: Cursor<'a>,
    netflow_v9: bool,
    options: bool,
}

/// A Set that cannot be read further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadSet;

impl<'a> TemplateRecords<'a> {
    pub(crate) fn new(set: &'a [u8], netflow_v9: bool, options: bool) -> Self {
        Self {
            cursor: Cursor::new(set),
            netflow_v9,
            options,
        }
    }

    /// The next record, its fields in `fields`; `None` at the end. After a `BadSet` the rest is lost.
    pub(crate) fn next(
        &mut self,
        fields: &mut Vec<FieldSpecifier>,
    ) -> Option<Result<TemplateRecord, BadSet>> {
        fields.clear();
        // Less than a record, or zeros, is padding (RFC 7011 §3.3.1).
        if self.cursor.remaining() < 4 || self.cursor.rest().iter().all(|&octet| octet == 0) {
            return None;
        }
        let record = match (self.netflow_v9, self.options) {
            (true, true) => self.v9_options(fields),
            (false, true) => self.ipfix_options(fields),
            (_, false) => self.flows(fields),
        };
        Some(record.ok_or(BadSet))
    }

    /// RFC 7011 §3.4.1, RFC 3954 §5.2.
    fn flows(&mut self, fields: &mut Vec<FieldSpecifier>) -> Option<TemplateRecord> {
        let id = self.cursor.u16()?;
        let count = self.cursor.u16()?;
        if count == 0 && !self.netflow_v9 {
            return withdrawal(id, 2);
        }
        self.fields(count, fields)?;
        (id >= 256).then_some(TemplateRecord::Definition {
            id,
            scope_fields: None,
        })
    }

    /// RFC 7011 §3.4.2.2.
    fn ipfix_options(&mut self, fields: &mut Vec<FieldSpecifier>) -> Option<TemplateRecord> {
        let id = self.cursor.u16()?;
        let count = self.cursor.u16()?;
        if count == 0 {
            return withdrawal(id, 3);
        }
        let scope = self.cursor.u16()?;
        self.fields(count, fields)?;
        (id >= 256 && scope <= count).then_some(TemplateRecord::Definition {
            id,
            scope_fields: Some(scope),
        })
    }

    /// RFC 3954 §6.1: the lengths are in octets.
    fn v9_options(&mut self, fields: &mut Vec<FieldSpecifier>) -> Option<TemplateRecord> {
        let id = self.cursor.u16()?;
        let scope = self.cursor.u16()?;
        let options = self.cursor.u16()?;
        if scope % 4 != 0 || options % 4 != 0 {
            return None;
        }
        self.fields(scope / 4, fields)?;
        self.fields(options / 4, fields)?;
        (id >= 256).then_some(TemplateRecord::Definition {
            id,
            scope_fields: Some(scope / 4),
        })
    }

    fn fields(&mut self, count: u16, fields: &mut Vec<FieldSpecifier>) -> Option<()> {
        for _ in 0..count {
            let element = self.cursor.u16()?;
            let length = self.cursor.u16()?;
            // RFC 7011 §3.2: the highest bit announces an enterprise number. v9 has none of this.
            let (element, enterprise) = if !self.netflow_v9 && element & 0x8000 != 0 {
                (element & 0x7fff, self.cursor.u32()?)
            } else {
                (element, 0)
            };
            fields.push(FieldSpecifier {
                element,
                length,
                enterprise,
            });
        }
        Some(())
    }
}

/// Of one template, or of all of a kind by the Set's own id.
fn withdrawal(id: u16, set_id: u16) -> Option<TemplateRecord> {
    (id >= 256 || id == set_id).then_some(TemplateRecord::Withdrawal { id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipfix_set_is_read_record_by_record() {
        let set = [
            1, 0, 0, 2, 0, 8, 0, 4, 0x80, 1, 0, 4, 0, 0, 0x72,
            0x79, // 256: IE 8 and a reverse IE 1
            1, 1, 0, 0, // 257 withdrawn
            0, 0, // padding
        ];
        let mut records = TemplateRecords::new(&set, false, false);
        let mut fields = Vec::new();
        assert_eq!(
            records.next(&mut fields),
            Some(Ok(TemplateRecord::Definition {
                id: 256,
                scope_fields: None
            }))
        );
        assert_eq!(fields[1].enterprise, 29_305);
        assert_eq!(
            records.next(&mut fields),
            Some(Ok(TemplateRecord::Withdrawal { id: 257 }))
        );
        assert_eq!(records.next(&mut fields), None);
    }

    #[test]
    fn a_template_beyond_its_set_is_bad() {
        let mut records = TemplateRecords::new(&[1, 0, 0, 9, 0, 8, 0, 4], true, false);
        assert_eq!(records.next(&mut Vec::new()), Some(Err(BadSet)));
    }

    #[test]
    fn v9_scopes_are_counted_in_octets() {
        let set = [1, 2, 0, 4, 0, 8, 0, 1, 0, 4, 0, 48, 0, 1, 0, 50, 0, 4];
        let mut fields = Vec::new();
        assert_eq!(
            TemplateRecords::new(&set, true, true).next(&mut fields),
            Some(Ok(TemplateRecord::Definition {
                id: 258,
                scope_fields: Some(1)
            }))
        );
        assert_eq!(fields.len(), 3);
    }
}
