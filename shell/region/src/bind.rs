//! Binds the operations of one door to the methods that answer them, behind the door's check
//! of who calls.

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
