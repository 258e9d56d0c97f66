"""HTTP: routes by resource, the dialects of the documents, errors, permissions, log streams.

A route is registered through :class:`cador.api.routing.Routes` with its permission; :func:`cador.api.app.create_app`
puts the collections of routes together. Nothing here decides: a handler reads the request, calls one operation and
shapes what came back.
"""
