use std::fmt::Write;

use weir_models::{Card, Evaluation};

/// A model card in words.
pub(super) fn words(card: &Card) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_card(card, &mut text);
    text
}

fn write_card(card: &Card, out: &mut String) -> std::fmt::Result {
    let data = &card.data;
    let name = if data.name.is_empty() {
        "(without a name)"
    } else {
        &data.name
    };
    writeln!(out, "name          {name}")?;
    writeln!(
        out,
        "features      version {}, {}",
        card.schema_version,
        card.schema_hash.get(..12).unwrap_or("")
    )?;
    let settings = &card.settings;
    writeln!(
        out,
        "forest        {} trees, depth {}, seed {}",
        settings.trees, settings.depth, settings.seed
    )?;
    writeln!(out, "thinned to    1 in {:?}", settings.lessons.thinning)?;
    writeln!(
        out,
        "data          {}",
        data.fingerprint.get(..12).unwrap_or("")
    )?;
    for source in &data.sources {
        writeln!(out, "              {source}")?;
    }
    for licence in &data.licences {
        writeln!(out, "licence       {licence}")?;
    }
    if data.licences.is_empty() {
        writeln!(out, "licence       not stated")?;
    }
    for (class, [plain, all]) in &data.windows {
        writeln!(
            out,
            "windows       {class}: {plain}, with those thinned {all}"
        )?;
    }
    for one in &data.agreements {
        let percent = |share: Option<f64>| {
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
        };
        writeln!(
            out,
            "labels by     {}: {} windows; a model of all other sources says attack too {}, and the same name {}{}",
            if one.source.is_empty() {
                "the data"
            } else {
                &one.source
            },
            one.windows,
            percent(one.attack),
            percent(one.name),
            if one.is_contradicted() {
                ": CONTRADICTED"
            } else {
                ""
            }
        )?;
    }
    if let Some(evaluation) = &card.checks.unseen_minutes {
        writeln!(
            out,
            "unseen minutes of the training data (optimistic: attacks last for minutes)"
        )?;
        write_scores(evaluation, out)?;
    }
    if let (Some(logistic), Some(forest)) =
        (card.checks.logistic_macro_f1, card.checks.forest_macro_f1)
    {
        writeln!(
            out,
            "check         macro F1 {forest:.3}, logistic regression {logistic:.3}, on the same windows"
        )?;
    }
    for (family, share) in &card.checks.never_learned {
        writeln!(
            out,
            "never learned {family}: {:.0} % of its windows are called attacks all the same",
            share * 100.0
        )?;
    }
    if let Some(reason) = &card.checks.anomaly {
        writeln!(out, "no picture of peace: {reason}")?;
    }
    for weakness in &data.weaknesses {
        writeln!(out, "weakness      {weakness}")?;
    }
    Ok(())
}

fn write_scores(evaluation: &Evaluation, out: &mut String) -> std::fmt::Result {
    for (class, score) in &evaluation.classes {
        writeln!(
            out,
            "  {class:<24} precision {:.3}  recall {:.3}  F1 {:.3}  of {}",
            score.precision, score.recall, score.f1, score.support
        )?;
    }
    writeln!(
        out,
        "  macro F1 {:.3}, accuracy {:.3}",
        evaluation.macro_f1, evaluation.accuracy
    )
}
