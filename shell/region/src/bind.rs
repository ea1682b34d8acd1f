//! Binds the operations of one door to the methods that answer them, behind the door's check
//! of who calls.

use std::sync::Arc;

use dwcp_api::{ApiError, Caller, Operation, Routes};

/// `bind! { api, admit, Operation => method; .. }`: the routes of a door. `api` is an `Arc`,
/// `admit` says whether a caller may enter, and each method takes parameters and body.
macro_rules! bind {
    ($api:expr, $admit:expr, $($operation:ty => $method:ident;)*) => {{
        let routes = dwcp_api::Routes::new();
        $(
            let api = std::sync::Arc::clone($api);
            let routes = routes.bind::<$operation, _, _>(move |caller, params, body| {
                let api = std::sync::Arc::clone(&api);
                async move {
                    $admit(&caller)?;
                    api.$method(params, body).await
                }
            });
        )*
        routes
    }};
}

pub(crate) use bind;

/// Says whether a caller may use a door.
pub(crate) type Admit = fn(&Caller) -> Result<(), ApiError>;

/// Binds one operation more, whose answer keeps who asked: the handler is told, after `admit` has
/// let that one in.
pub(crate) fn bind_by<O, A, F, Fut>(
    routes: Routes,
    (api, admit): (&Arc<A>, Admit),
    handler: F,
) -> Routes
where
    O: Operation,
    A: Send + Sync + 'static,
    F: Fn(Arc<A>, String, O::Params, O::Body) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<O::Reply, ApiError>> + Send + 'static,
{
    let api = Arc::clone(api);
    routes.bind::<O, _, _>(move |caller: Caller, params, body| {
        let (api, handler) = (Arc::clone(&api), handler.clone());
        async move {
            admit(&caller)?;
            handler(api, caller.identity.to_string(), params, body).await
        }
    })
}
