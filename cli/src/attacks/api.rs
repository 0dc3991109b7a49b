//! `/api/v1/attacks/…` of the admin socket: an operator's word on attacks, and all that is kept of one.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weir_attack_event::{AttackEvent, AttackId};
use weir_collector::wall_clock;
use weir_detector::{Overridden, Override, OverrideError};
use weir_flow_record::{Direction, Period, Timestamp, Vector};
use weir_flow_store::Bundle;

use super::{Label, Labelling, Said};
use crate::admin::Admin;
use crate::http::failed;

/// Labels that are kept at most.
const MAX_LABELS: usize = 100_000;

/// All that is known of an attack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AttackView {
    /// The newest event.
    pub(crate) event: AttackEvent,
    /// Where its flows are.
    pub(crate) bundle: Option<Bundle>,
    /// What an operator says that it was.
    pub(crate) label: Option<Label>,
}

/// That there is an attack.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Starting {
    pub(crate) target: IpNet,
    pub(crate) direction: Direction,
    /// A name of the catalogue.
    pub(crate) vector: String,
    /// Seconds; `None` = until it is ended.
    pub(crate) lifetime: Option<u64>,
    #[serde(default)]
    pub(crate) note: String,
}

/// That an attack is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) attack: String,
    #[serde(default)]
    pub(crate) note: String,
}

/// That nobody wants to be told of attacks inside a prefix.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Muting {
    pub(crate) prefix: IpNet,
    /// Seconds; `None` = until it is unmuted.
    #[serde(default)]
    pub(crate) seconds: Option<u64>,
    #[serde(default)]
    pub(crate) note: String,
}

/// What came of an operator's word.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// `started`, `held`, `ended`, `muted` or `unmuted`.
    pub(crate) done: String,
    /// The attacks that it concerns.
    pub(crate) attacks: Vec<AttackId>,
}

impl From<Overridden> for Answer {
    fn from(done: Overridden) -> Self {
        let (done, attacks) = match done {
            Overridden::Started(attack) => ("started", vec![attack]),
            Overridden::Held(attack) => ("held", vec![attack]),
            Overridden::Ended(attack) => ("ended", vec![attack]),
            Overridden::Muted(attacks) => ("muted", attacks),
            Overridden::Unmuted => ("unmuted", Vec::new()),
        };
        Self {
            done: done.to_owned(),
            attacks,
        }
    }
}

/// Routes that act, or show files' names.
pub(crate) fn acting() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/attacks/start", post(start))
        .route("/api/v1/attacks/end", post(end))
        .route("/api/v1/attacks/mute", post(mute))
        .route("/api/v1/attacks/unmute", post(unmute))
        .route("/api/v1/attacks/label", post(label))
        .route("/api/v1/attacks/labels", get(labels))
        .route("/api/v1/attacks/{attack}", get(show))
}

async fn start(State(admin): State<Arc<Admin>>, Json(wanted): Json<Starting>) -> Response {
    let Some(vector) = Vector::by_name(&wanted.vector) else {
        let why = format!("`{}` is no name of the catalogue", wanted.vector);
        return (StatusCode::BAD_REQUEST, why).into_response();
    };
    let word = Override::Start {
        target: wanted.target,
        direction: wanted.direction,
        vector,
        lifetime: wanted.lifetime.map(std::time::Duration::from_secs),
        note: wanted.note,
    };
    carry_out(&admin, word).await
}

async fn end(State(admin): State<Arc<Admin>>, Json(wanted): Json<Ending>) -> Response {
    // What is shown may be a tick behind: an unknown name is judged by the detector.
    let known = admin.views().attack(&wanted.attack);
    let attack = known.map_or_else(|| AttackId(wanted.attack.into()), |event| event.id);
    let word = Override::End {
        attack,
        note: wanted.note,
    };
    carry_out(&admin, word).await
}

async fn mute(State(admin): State<Arc<Admin>>, Json(wanted): Json<Muting>) -> Response {
    let until = wanted.seconds.map(|seconds| {
        let time = Period(std::time::Duration::from_secs(seconds));
        Timestamp::from_nanos(wall_clock()).plus(time.0)
    });
    let word = Override::Mute {
        prefix: wanted.prefix,
        until,
        note: wanted.note,
    };
    carry_out(&admin, word).await
}

async fn unmute(State(admin): State<Arc<Admin>>, Json(wanted): Json<Muting>) -> Response {
    let word = Override::Unmute {
        prefix: wanted.prefix,
    };
    carry_out(&admin, word).await
}

async fn carry_out(admin: &Admin, word: Override) -> Response {
    match admin.word(word).await {
        Ok(done) => Json(Answer::from(done)).into_response(),
        Err(error) => match error.downcast_ref::<OverrideError>() {
            Some(why @ (OverrideError::NotOpen(_) | OverrideError::NotMuted(_))) => {
                (StatusCode::NOT_FOUND, why.to_string()).into_response()
            }
            Some(why) => (StatusCode::BAD_REQUEST, why.to_string()).into_response(),
            None => failed(&error),
        },
    }
}

async fn label(State(admin): State<Arc<Admin>>, Json(wanted): Json<Labelling>) -> Response {
    if let Err(why) = wanted.check() {
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    let Some(event) = admin.views().attack(&wanted.attack) else {
        return unknown(&wanted.attack);
    };
    let label = wanted.label(&event, Timestamp::from_nanos(wall_clock()));
    match keep(&admin, &label) {
        Ok(()) => {
            admin.announcer().label(&Said::Operator(label.clone()));
            tracing::info!(attack = %label.attack, label = label.name, by = label.by, "labelled");
            Json(label).into_response()
        }
        Err(error) => failed(&error),
    }
}

fn keep(admin: &Admin, label: &Label) -> anyhow::Result<()> {
    let journal = admin.journal();
    if journal.label(&label.attack)?.is_none() && journal.labels()?.len() >= MAX_LABELS {
        anyhow::bail!("there are {MAX_LABELS} labels already");
    }
    journal.keep_label(label)
}

async fn labels(State(admin): State<Arc<Admin>>) -> Response {
    match admin.journal().said() {
        Ok(said) => Json(said).into_response(),
        Err(error) => failed(&error),
    }
}

async fn show(State(admin): State<Arc<Admin>>, Path(attack): Path<String>) -> Response {
    let views = admin.views();
    let Some(event) = views.attack(&attack) else {
        return unknown(&attack);
    };
    let bundle = views
        .evidence_folder()
        .map(|folder| weir_flow_store::bundle(&folder, &event.id));
    let found = bundle
        .transpose()
        .map(Option::flatten)
        .map_err(anyhow::Error::from)
        .and_then(|bundle| Ok((bundle, admin.journal().label(&event.id)?)));
    match found {
        Ok((bundle, label)) => Json(AttackView {
            event,
            bundle,
            label,
        })
        .into_response(),
        Err(error) => failed(&error),
    }
}

fn unknown(attack: &str) -> Response {
    let why = format!("no attack is named `{attack}`");
    (StatusCode::NOT_FOUND, why).into_response()
}
