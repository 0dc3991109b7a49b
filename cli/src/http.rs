//! The daemon's HTTP interface: metrics, health, attacks, exporters; and, on the admin socket alone, the panic button.

use std::future::IntoFuture;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use weir_attack_event::AttackId;
use weir_standby::Role;

use crate::admin::{
    Admin, Confirmation, Declined, EfficacyWord, Hold, MitigationRequest, Withdrawal,
};
use crate::attacks::api;
use crate::baseline;
use crate::daemon::Order;
use crate::metrics;
use crate::overview::Overview;
use crate::state;
use crate::views::Views;

/// Packets whose headers are given for an attack, at most.
const HEADERS: usize = 10_000;

/// Routes that only look.
fn public(views: Arc<Views>) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(health))
        .route("/healthz/active", get(health_of_active))
        .route(
            "/api/v1/standby",
            get(|State(views): State<Arc<Views>>| async move { Json(views.standby()) }),
        )
        .route(
            "/api/v1/attacks",
            get(|State(views): State<Arc<Views>>| async move { Json(views.attacks()) }),
        )
        .route(
            "/api/v1/attacks/mutes",
            get(|State(views): State<Arc<Views>>| async move { Json(views.mutes()) }),
        )
        .route(
            "/api/v1/exporters",
            get(|State(views): State<Arc<Views>>| async move { Json(views.shard().exporters) }),
        )
        .route(
            "/api/v1/zones",
            get(|State(views): State<Arc<Views>>| async move { Json(zones(&views)) }),
        )
        .route(
            "/api/v1/mitigations",
            get(|State(views): State<Arc<Views>>| async move { Json(views.mitigations()) }),
        )
        .with_state(views)
}

/// That the daemon lives; of one of a pair also its role.
async fn health(State(views): State<Arc<Views>>) -> String {
    match views.standby() {
        Some(pair) => format!("ok {}\n", pair.role.name()),
        None => "ok\n".to_owned(),
    }
}

/// The same, with status 503 where the other one of a pair works: for what moves a shared address.
async fn health_of_active(views: State<Arc<Views>>) -> Response {
    let standby = views.standby();
    let status = match standby {
        Some(pair) if pair.role != Role::Active => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (status, health(views).await).into_response()
}

/// Routes that show parts of packets: reached through the admin socket alone.
fn confidential(views: Arc<Views>) -> Router {
    Router::new()
        .route("/api/v1/attacks/{id}/headers.pcap", get(headers))
        .with_state(views)
}

/// The newest sampled packet headers of an attack's target.
async fn headers(State(views): State<Arc<Views>>, UrlPath(id): UrlPath<String>) -> Response {
    let attacks = views.attacks();
    let attack = attacks.iter().find(|attack| attack.id.to_string() == id);
    match attack.and_then(|attack| views.headers_of(attack, HEADERS)) {
        Some(file) => {
            let kind = "application/vnd.tcpdump.pcap";
            ([(header::CONTENT_TYPE, kind)], file).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The coverage of each zone.
fn zones(views: &Views) -> Vec<serde_json::Value> {
    let zones = views.shard().zones();
    let row = |(zone, coverage): (String, weir_collector::Coverage)| serde_json::json!({ "name": zone, "coverage_share": coverage.share(), "coverage": coverage });
    zones.into_iter().map(row).collect()
}

/// Routes that act: reached through the admin socket, whose file mode says who may.
fn acting(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/api/v1/dots/request", post(request))
        .route("/api/v1/dots/withdraw", post(withdraw))
        .route("/api/v1/dots/efficacy", post(efficacy))
        .route("/api/v1/dots/confirm", post(confirm))
        .route("/api/v1/dots/hold", post(hold))
        .route("/api/v1/dots", get(overview))
        .merge(baseline::routes())
        .merge(api::acting())
        .with_state(admin)
}

/// Serves the public routes until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    views: Arc<Views>,
    shutdown: watch::Receiver<bool>,
) {
    let served = axum::serve(listener, public(views))
        .with_graceful_shutdown(stopped(shutdown))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP interface ended");
    }
}

/// Opens the admin socket, readable by its owner alone. A socket that an earlier run left behind is replaced: the lock on
/// the state file says that no other daemon owns it.
pub(crate) fn bind_admin(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves all routes on the admin socket until `shutdown`.
pub(crate) async fn serve_admin(
    listener: UnixListener,
    views: Arc<Views>,
    admin: Arc<Admin>,
    shutdown: watch::Receiver<bool>,
) {
    let router = public(Arc::clone(&views))
        .merge(confidential(views))
        .merge(state::routes(Arc::clone(admin.journal().state())))
        .merge(acting(admin));
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stopped(shutdown))
        .await
    {
        tracing::error!(%error, "the admin socket ended");
    }
}

/// Serves what a daemon can show and do while the other of its pair works; until it is dropped.
pub(crate) async fn serve_waiting(
    listener: TcpListener,
    admin: UnixListener,
    views: Arc<Views>,
    state: Arc<weir_state::State>,
) -> std::io::Result<()> {
    let shown = axum::serve(listener, public(Arc::clone(&views)));
    let ruled = public(Arc::clone(&views)).merge(state::routes(state));
    let ruled = ruled.fallback(move || {
        let active = views.standby().map(|pair| pair.peer).unwrap_or_default();
        let why = format!("this daemon is not the active one of its pair: ask `{active}`");
        async move { (StatusCode::CONFLICT, why) }
    });
    let ruled = axum::serve(admin, ruled);
    tokio::try_join!(shown.into_future(), ruled.into_future()).map(drop)
}

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn scrape(State(views): State<Arc<Views>>) -> Response {
    match metrics::scrape(&views) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn request(
    State(admin): State<Arc<Admin>>,
    Json(wanted): Json<MitigationRequest>,
) -> Response {
    match admin.request(wanted).await {
        Ok(report) => (StatusCode::CREATED, Json(report)).into_response(),
        Err(error) => failed(&error),
    }
}

async fn withdraw(State(admin): State<Arc<Admin>>, Json(wanted): Json<Withdrawal>) -> Response {
    match admin.withdraw(wanted).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

async fn efficacy(State(admin): State<Arc<Admin>>, Json(wanted): Json<EfficacyWord>) -> Response {
    match admin.efficacy(wanted).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

async fn confirm(State(admin): State<Arc<Admin>>, Json(wanted): Json<Confirmation>) -> Response {
    let attack = AttackId(wanted.attack.as_str().into());
    match admin.order(Order::Confirm(attack)).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => {
            let why = format!("no attack `{}` waits for a confirmation", wanted.attack);
            (StatusCode::NOT_FOUND, why).into_response()
        }
        Err(error) => failed(&error),
    }
}

async fn hold(State(admin): State<Arc<Admin>>, Json(wanted): Json<Hold>) -> Response {
    let Hold { hold, withdraw } = wanted;
    match admin.order(Order::Hold { hold, withdraw }).await {
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

async fn overview(State(admin): State<Arc<Admin>>) -> Json<Overview> {
    Json(admin.overview())
}

pub(crate) fn failed(error: &anyhow::Error) -> Response {
    let declined = error.downcast_ref::<Declined>();
    let status = declined.map_or(StatusCode::BAD_GATEWAY, Declined::status);
    (status, format!("{error:#}")).into_response()
}
