//! The public API, one file per resource. A handler reads the request, asks an actor, and maps the answer.

mod admin;
mod cluster;
mod denied;
mod descartados;
mod integraciones;
mod legacy;
mod ops;
mod productos;
mod salientes;
mod starting;
mod stock;
mod ventas;
mod webhooks;
mod wire;

pub use admin::new_tenant;
pub use cluster::Cluster;
pub use ops::{LiveBoard, Ops};
pub use starting::starting;

use super::{ApiError, Authenticator, Permission, Principal, Request, Response, Routes};
use crate::actors::channels::Channels;
use crate::actors::legacy_poller::Pollers;
use crate::actors::reservation::{Caller, Shards};
use crate::actors::webhooks::Webhooks;
use crate::domain::ids::TenantId;
use cluster::{Place, Whose};
use futures_util::future::BoxFuture;
use hyper::header::AUTHORIZATION;
use std::future::Future;
use std::sync::Arc;

/// What handlers work with.
pub struct Api {
    /// The reservation shards.
    pub shards: Shards,
    /// The connections to marketplaces.
    pub channels: Channels,
    /// The webhooks that go out.
    pub webhooks: Webhooks,
    /// The pollers of old ERPs.
    pub pollers: Pollers,
    /// The other nodes, where there may be some.
    pub cluster: Option<Cluster>,
    /// Who is calling.
    pub authenticator: Authenticator,
    /// What operators look at.
    pub ops: Ops,
    /// Largest body of a catalogue import, in bytes.
    pub max_import_bytes: usize,
}

/// A caller with its tenant, allowed to do what it asks for.
pub(super) struct Allowed {
    pub tenant: TenantId,
    pub caller: Caller,
}

impl Api {
    /// Who calls, if it may.
    fn principal(&self, request: &Request, permission: Permission) -> Result<Arc<Principal>, ApiError> {
        let principal = self.authenticator.authenticate(&request.headers)?;
        principal.require(permission)?;
        Ok(principal)
    }

    /// Who calls and for which tenant, if it may. The tenant comes from the token and from nowhere else.
    fn allow(&self, request: &Request, permission: Permission) -> Result<Allowed, ApiError> {
        let principal = self.principal(request, permission)?;
        Ok(Allowed { tenant: principal.tenant()?, caller: caller(&principal, request) })
    }
}

fn caller(principal: &Principal, request: &Request) -> Caller {
    let request_id = request.request_id.as_str().into();
    Caller { user: principal.user.as_str().into(), request_id, trace: request.trace.clone() }
}

/// All routes of the program.
pub fn routes(api: Arc<Api>) -> Routes {
    let max_import_bytes = api.max_import_bytes;
    Routes::new()
        .post("/api/v1/ventas/checkout", of_tenant(&api, Whose::Token, ventas::checkout))
        .get("/api/v1/ventas/{id}", of_tenant(&api, Whose::Token, ventas::show))
        .post("/api/v1/ventas/{id}/anular", of_tenant(&api, Whose::Token, ventas::void))
        .get("/api/v1/ventas/scan/{codigo}", of_tenant(&api, Whose::Token, productos::scan))
        .get("/api/v1/productos", of_tenant(&api, Whose::Token, productos::list))
        .get("/api/v1/productos/scan/{codigo}", of_tenant(&api, Whose::Token, productos::scan))
        .get("/api/v1/productos/locations", of_tenant(&api, Whose::Token, stock::locations))
        .get("/api/v1/stock/locations", of_tenant(&api, Whose::Token, stock::locations))
        .get("/api/v1/stock/{producto_id}", of_tenant(&api, Whose::Token, stock::show))
        .get("/api/v1/integraciones", of_tenant(&api, Whose::Token, integraciones::list))
        .post("/api/v1/integraciones", of_tenant(&api, Whose::Token, integraciones::create))
        .post("/api/v1/integraciones/shopify/instalar", of_tenant(&api, Whose::Token, integraciones::install))
        .get("/api/v1/integraciones/shopify/retorno", of_tenant(&api, Whose::State, integraciones::installed))
        .get("/api/v1/integraciones/{id}", of_tenant(&api, Whose::Token, integraciones::show))
        .patch("/api/v1/integraciones/{id}", of_tenant(&api, Whose::Token, integraciones::change))
        .delete("/api/v1/integraciones/{id}", of_tenant(&api, Whose::Token, integraciones::remove))
        .put("/api/v1/integraciones/{id}/mapeo", of_tenant(&api, Whose::Waiter, integraciones::map))
        .delete(
            "/api/v1/integraciones/{id}/mapeo/{producto_id}",
            of_tenant(&api, Whose::Token, integraciones::unmap),
        )
        .post("/api/v1/integraciones/{id}/probar", of_tenant(&api, Whose::Waiter, integraciones::check))
        .post("/api/v1/integraciones/{id}/mapear", of_tenant(&api, Whose::Waiter, integraciones::match_items))
        .post("/api/v1/integraciones/{id}/pausar", of_tenant(&api, Whose::Token, integraciones::pause))
        .post("/api/v1/integraciones/{id}/reanudar", of_tenant(&api, Whose::Token, integraciones::resume))
        .post(
            "/api/v1/integraciones/{id}/resincronizar",
            of_tenant(&api, Whose::Token, integraciones::resync),
        )
        .post(
            "/api/v1/integraciones/{id}/confirmar_ceros",
            of_tenant(&api, Whose::Token, integraciones::confirm_zeros),
        )
        .post(
            "/api/v1/integraciones/{id}/corregir_diferencias",
            of_tenant(&api, Whose::Token, integraciones::push_ours),
        )
        .post("/api/v1/webhooks/meli", with(&api, webhooks::meli))
        .post("/api/v1/webhooks/shopify/{id}", with(&api, webhooks::shopify))
        .get("/api/v1/webhooks/salientes", of_tenant(&api, Whose::Token, salientes::list))
        .post("/api/v1/webhooks/salientes", of_tenant(&api, Whose::Token, salientes::create))
        .delete("/api/v1/webhooks/salientes/{id}", of_tenant(&api, Whose::Token, salientes::remove))
        .post("/api/v1/webhooks/salientes/{id}/probar", of_tenant(&api, Whose::Token, salientes::test))
        .post("/api/v1/webhooks/salientes/{id}/rotar", of_tenant(&api, Whose::Token, salientes::rotate))
        .post("/api/v1/webhooks/salientes/{id}/pausar", of_tenant(&api, Whose::Token, salientes::pause))
        .post("/api/v1/webhooks/salientes/{id}/reanudar", of_tenant(&api, Whose::Token, salientes::resume))
        .get("/api/v1/webhooks/salientes/{id}/entregas", of_tenant(&api, Whose::Token, salientes::log))
        .post(
            "/api/v1/webhooks/salientes/{id}/entregas/{entrega}/reenviar",
            of_tenant(&api, Whose::Token, salientes::again),
        )
        .post("/api/v1/cache/warmup", of_tenant(&api, Whose::Token, stock::warm_up))
        .post("/api/v1/sync/legacy", of_tenant(&api, Whose::Token, legacy::push))
        .get("/api/v1/sync/legacy", of_tenant(&api, Whose::Token, legacy::status))
        .post("/api/v1/sync/legacy/run", of_tenant(&api, Whose::Token, legacy::run))
        .get("/api/v1/sync/legacy/retenidos", of_tenant(&api, Whose::Token, legacy::held))
        .post("/api/v1/sync/legacy/retenidos", of_tenant(&api, Whose::Token, legacy::decide))
        .get("/api/v1/admin/tiendas", with(&api, admin::list_tenants))
        .post("/api/v1/admin/tiendas", with(&api, admin::create_tenant))
        .post("/api/v1/admin/tiendas/{id}/catalogo", of_tenant(&api, Whose::Path, admin::import))
        .body_limit(max_import_bytes)
        .get("/api/v1/admin/tiendas/{id}/existencias", of_tenant(&api, Whose::Path, admin::snapshot))
        .post("/api/v1/admin/tiendas/{id}/cache/warmup", of_tenant(&api, Whose::Path, admin::warm_up))
        .get("/api/v1/admin/descartados", with(&api, descartados::list))
        .get("/api/v1/admin/descartados/{id}", with(&api, descartados::show))
        .post("/api/v1/admin/descartados/reprocesar", with(&api, descartados::replay))
        .post("/api/v1/admin/descartados/borrar", with(&api, descartados::discard))
        .get("/api/v1/openapi.json", with(&api, ops::openapi))
        .get("/api/v1/health", with(&api, ops::health))
        .get("/api/v1/health/ready", with(&api, ops::ready))
        .get("/health", with(&api, ops::health))
        .get("/ready", with(&api, ops::ready))
        .get("/metrics", with(&api, ops::metrics))
        .get("/ops/actors", with(&api, ops::actors))
        .get("/ops/live", with(&api, ops::live))
        .get("/", with(&api, ops::page))
        .get("/app.js", with(&api, ops::script))
        .get("/style.css", with(&api, ops::style))
}

/// The same for a handler that asks a tenant's shard: it runs at the node that has the shard.
fn of_tenant<F, Fut>(
    api: &Arc<Api>,
    whose: Whose,
    handler: F,
) -> impl Fn(Request) -> BoxFuture<'static, Result<Response, ApiError>> + Send + Sync + use<F, Fut>
where
    F: Fn(Arc<Api>, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let (api, here) = (api.clone(), Arc::new(with(api, handler)));
    move |request| {
        let tenant = api.cluster.as_ref().and_then(|_| whose.tenant(&api, &request));
        let Some(tenant) = tenant else { return here(request) };
        let (api, here) = (api.clone(), here.clone());
        Box::pin(async move {
            let Some(cluster) = &api.cluster else { return here(request).await };
            match cluster.place(tenant, whose, request).await {
                Ok(Place::Here(request)) => here(*request).await,
                Ok(Place::Answered(response)) => Ok(response),
                Err(error) => Err(error.of_tenant(Some(tenant))),
            }
        })
    }
}

/// Gives a handler the API's state.
fn with<F, Fut>(
    api: &Arc<Api>,
    handler: F,
) -> impl Fn(Request) -> BoxFuture<'static, Result<Response, ApiError>> + Send + Sync + use<F, Fut>
where
    F: Fn(Arc<Api>, Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    let api = api.clone();
    move |request| {
        let token = request.headers.get(AUTHORIZATION).cloned();
        let (api, answer) = (api.clone(), handler(api.clone(), request));
        Box::pin(async move {
            answer.await.map_err(|error| {
                // Only for the log, and only for refusals: whose request it was.
                let headers = token.map(|token| (AUTHORIZATION, token)).into_iter().collect();
                let principal = api.authenticator.authenticate(&headers).ok();
                error.of_tenant(principal.and_then(|principal| principal.tenant))
            })
        })
    }
}
