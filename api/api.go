// Package api is the published contract of a department's gateway: the
// description in openapi.yaml and what is generated from it, the server
// interface for Gin, the types and a client. It imports nothing else of this
// module, so that any program can use it.
package api

//go:generate go tool oapi-codegen --config server.yaml openapi.yaml
//go:generate go tool oapi-codegen --config client.yaml openapi.yaml
