use super::Matrix;

/// Bins of a feature, the one of unknown values (0) not counted.
pub(super) const BINS: usize = 48;

/// Rows from which quantiles are taken.
const SAMPLED: usize = 50_000;

/// The features of all rows as small numbers, column by column: 0 is unknown, 1 the lowest.
pub(super) struct Binned {
    pub(super) columns: Vec<Vec<u8>>,
    /// Upper edges: bin `b` holds values up to `edges[b - 1]`; the last bin has none.
    pub(super) edges: Vec<Vec<f32>>,
}

impl Binned {
    pub(super) fn new(matrix: &Matrix<'_>) -> Self {
        let mut binned = Self {
            columns: Vec::with_capacity(matrix.features),
            edges: Vec::with_capacity(matrix.features),
        };
        for feature in 0..matrix.features {
            let edges = edges(matrix, feature);
            let column = (0..matrix.rows()).map(|row| bin(&edges, matrix.value(row, feature)));
            binned.columns.push(column.collect());
            binned.edges.push(edges);
        }
        binned
    }
}

fn bin(edges: &[f32], value: f32) -> u8 {
    if value.is_nan() {
        return 0;
    }
    // At most `BINS` − 1 edges.
    edges.partition_point(|edge| *edge < value) as u8 + 1
}

/// Edges midway between neighbouring values, at quantiles; fewer where few values differ.
fn edges(matrix: &Matrix<'_>, feature: usize) -> Vec<f32> {
    let step = matrix.rows().div_ceil(SAMPLED).max(1);
    let values = (0..matrix.rows())
        .step_by(step)
        .map(|row| matrix.value(row, feature));
    let mut values: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f32::total_cmp);
    let mut distinct = values.clone();
    distinct.dedup();
    let middle = |pair: &[f32]| match pair {
        [low, high] => low + (high - low) / 2.0,
        _ => f32::NAN,
    };
    let mut edges: Vec<f32> = if distinct.len() <= BINS {
        distinct.windows(2).map(middle).collect()
    } else {
        (1..BINS)
            .filter_map(|part| values.get(part * values.len() / BINS))
            .filter_map(|value| {
                let above = distinct.partition_point(|one| one <= value);
                distinct.get(above.checked_sub(1)?..=above).map(middle)
            })
            .collect()
    };
    edges.dedup();
    edges
}
