//! The feature vector, models on linfa, artefacts with model cards.
use linfa as _;
use linfa_clustering as _;
use linfa_logistic as _;
use linfa_reduction as _;
use linfa_trees as _;
