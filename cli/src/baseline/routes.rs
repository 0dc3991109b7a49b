//! `/api/v1/baselines`, on the admin socket.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use weir_flow_record::Direction;

use super::BaselineOrder;
use crate::admin::Admin;

/// Targets of a plain GET.
const LISTED: usize = 100;

/// GET lists inbound targets; POST does what an order says.
pub(crate) fn routes() -> Router<Arc<Admin>> {
    Router::new().route("/api/v1/baselines", get(list).post(order))
}

async fn list(State(admin): State<Arc<Admin>>) -> Response {
    let (direction, most) = (Direction::In, LISTED);
    let order = BaselineOrder::List { direction, most };
    respond(&admin, order).await
}

async fn order(State(admin): State<Arc<Admin>>, Json(order): Json<BaselineOrder>) -> Response {
    respond(&admin, order).await
}

async fn respond(admin: &Admin, order: BaselineOrder) -> Response {
    match admin.baselines(order).await {
        Ok(Ok(told)) => Json(told).into_response(),
        Ok(Err(why)) => (StatusCode::UNPROCESSABLE_ENTITY, why).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")).into_response(),
    }
}
