//! The metrics of a running `weir`, by the socket in its state folder.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What it told at one time.
pub struct Metrics(String);

impl Metrics {
    /// Asks the process whose state is in `state`.
    pub fn of(state: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(state.join("weir.sock"))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(Self(text))
    }

    /// The sum of a metric over its labels; 0 where there is none.
    pub fn sum(&self, name: &str) -> f64 {
        self.values(name).sum()
    }

    /// The largest value of a metric over its labels; `None` where there is none.
    pub fn max(&self, name: &str) -> Option<f64> {
        self.values(name).reduce(f64::max)
    }

    fn values(&self, name: &str) -> impl Iterator<Item = f64> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{'])
                .then(|| rest.rsplit_once(' ')?.1.parse().ok())?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_others_name() {
        let text =
            "# HELP a_total x\na_total 1\nb_total{p=\"1\"} 2\nb_total{p=\"2\"} 3.5\nb_totals 9\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!(metrics.sum("b_total"), 5.5);
        assert_eq!(metrics.sum("a_total"), 1.0);
        assert_eq!(metrics.sum("c_total"), 0.0);
        assert_eq!(metrics.max("b_total"), Some(3.5));
        assert_eq!(metrics.max("c_total"), None);
    }
}
