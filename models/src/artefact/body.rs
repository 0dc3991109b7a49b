use super::octets::{Reader, put_bytes, put_floats, put_u32};
use super::{ArtefactError, Card};
use crate::anomaly::{Anomaly, Gaussian, MAX_COMPONENTS, Tail};
use crate::calibration::Calibration;
use crate::drift::Reference;
use crate::features::FEATURES;
use crate::forest::{Forest, Node};
use crate::model::Model;

/// Octets of a node.
const NODE: usize = 16;

/// The small tables, which are readable as JSON.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    calibration: Calibration,
    point: f32,
    reference: Reference,
    residuals: Option<Tail>,
    densities: Option<Tail>,
}

pub(super) fn write(model: &Model, out: &mut Vec<u8>) -> Result<(), ArtefactError> {
    let anomaly = model.anomaly.as_ref();
    let tables = Tables {
        calibration: model.calibration.clone(),
        point: model.point,
        reference: model.reference.clone(),
        residuals: anomaly.map(|one| one.residuals.clone()),
        densities: anomaly.map(|one| one.densities.clone()),
    };
    put_bytes(out, &serde_json::to_vec(&tables)?);
    put_floats(out, &model.usual);
    write_forest(&model.forest, out);
    if let Some(anomaly) = anomaly {
        write_anomaly(anomaly, out);
    }
    Ok(())
}

pub(super) fn read(card: Card, reader: &mut Reader<'_>) -> Result<Model, ArtefactError> {
    let tables: Tables = serde_json::from_slice(reader.bytes()?)?;
    let usual = reader.floats()?;
    let mut forest = read_forest(reader)?;
    forest.classes = card.classes.len();
    let anomaly = match (tables.residuals, tables.densities) {
        (Some(residuals), Some(densities)) => Some(Anomaly {
            residuals,
            densities,
            ..read_anomaly(reader)?
        }),
        _ => None,
    };
    Ok(Model {
        card,
        forest,
        calibration: tables.calibration,
        point: tables.point,
        anomaly,
        usual,
        reference: tables.reference,
    })
}

fn write_forest(forest: &Forest, out: &mut Vec<u8>) {
    let roots: Vec<u8> = forest
        .roots
        .iter()
        .flat_map(|root| root.to_le_bytes())
        .collect();
    put_bytes(out, &roots);
    let mut nodes = Vec::with_capacity(forest.nodes.len() * NODE);
    for node in &forest.nodes {
        nodes.extend_from_slice(&node.threshold.to_bits().to_le_bytes());
        nodes.extend_from_slice(&node.feature.to_le_bytes());
        nodes.extend_from_slice(&[u8::from(node.missing_left), 0]);
        nodes.extend_from_slice(&node.left.to_le_bytes());
        nodes.extend_from_slice(&node.right.to_le_bytes());
    }
    put_bytes(out, &nodes);
    put_floats(out, &forest.leaves);
}

fn read_forest(reader: &mut Reader<'_>) -> Result<Forest, ArtefactError> {
    let (roots, _) = reader.bytes()?.as_chunks::<4>();
    let (nodes, _) = reader.bytes()?.as_chunks::<NODE>();
    let node = |octets: &[u8; NODE]| {
        let [a, b, c, d, e, f, missing, _, g, h, i, j, k, l, m, n] = *octets;
        Node {
            threshold: f32::from_bits(u32::from_le_bytes([a, b, c, d])),
            feature: u16::from_le_bytes([e, f]),
            missing_left: missing != 0,
            left: u32::from_le_bytes([g, h, i, j]),
            right: u32::from_le_bytes([k, l, m, n]),
        }
    };
    Ok(Forest {
        classes: 0,
        roots: roots.iter().map(|root| u32::from_le_bytes(*root)).collect(),
        nodes: nodes.iter().map(node).collect(),
        leaves: reader.floats()?,
    })
}

fn write_anomaly(anomaly: &Anomaly, out: &mut Vec<u8>) {
    let scale: Vec<f32> = anomaly.scale.iter().flatten().copied().collect();
    put_floats(out, &scale);
    put_floats(out, &anomaly.components);
    put_floats(out, &anomaly.inverse_deviations);
    put_u32(out, anomaly.gaussians.len() as u32);
    for gaussian in &anomaly.gaussians {
        put_floats(out, &[gaussian.constant]);
        put_floats(out, &gaussian.mean);
        put_floats(out, &gaussian.precision);
    }
}

fn read_anomaly(reader: &mut Reader<'_>) -> Result<Anomaly, ArtefactError> {
    let scale = reader.floats()?;
    let (scale, _) = scale.as_chunks::<2>();
    let mut anomaly = Anomaly {
        scale: scale.to_vec(),
        components: reader.floats()?,
        inverse_deviations: reader.floats()?,
        ..Anomaly::default()
    };
    let dimensions = anomaly.inverse_deviations.len();
    let count = reader.u32()?;
    let fits = dimensions <= MAX_COMPONENTS
        && anomaly.scale.len() == FEATURES
        && anomaly.components.len() == dimensions * FEATURES;
    if !fits || count > 256 {
        return Err(ArtefactError::NoModel);
    }
    for _ in 0..count {
        let gaussian = Gaussian {
            constant: reader.floats()?.first().copied().unwrap_or(0.0),
            mean: reader.floats()?,
            precision: reader.floats()?,
        };
        if gaussian.mean.len() != dimensions || gaussian.precision.len() != dimensions * dimensions
        {
            return Err(ArtefactError::NoModel);
        }
        anomaly.gaussians.push(gaussian);
    }
    Ok(anomaly)
}
