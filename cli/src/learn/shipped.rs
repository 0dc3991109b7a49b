//! The model that ships with Weir: in shadow from the first start on, until somebody promotes it or turns it off.

use weir_models::Model;

use super::Artefact;

/// Its name on the command line.
pub(super) const NAME: &str = "default";

/// `models/default.sh` makes it, octet by octet.
static OCTETS: &[u8] = include_bytes!("../../../models/default.weirmodel");

/// The model.
pub(super) fn artefact() -> anyhow::Result<Artefact> {
    let (model, id) = Model::read(OCTETS)?;
    Ok(Artefact {
        model,
        id,
        octets: OCTETS.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may")]

    use super::*;

    #[test]
    fn it_is_small_and_says_what_it_is() {
        assert!(OCTETS.len() < 2_000_000, "{} octets", OCTETS.len());
        let artefact = artefact().unwrap();
        let card = artefact.model.card();
        assert!(!card.data.licences.is_empty() && !card.data.weaknesses.is_empty());
        assert!(
            card.classes
                .iter()
                .any(|class| class == "tcp-synack-reflection")
        );
        let told = card.checks.unseen_minutes.as_ref().unwrap();
        assert!(told.attack.f1 > 0.9, "{told:#?}");
    }
}
