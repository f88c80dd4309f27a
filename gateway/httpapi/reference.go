package httpapi

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/zhenglian/zhenglian/api"
)

// referencePolicy lets the page load its style and nothing else from anywhere.
const referencePolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed reference/page.html
var referencePage string

//go:embed reference/page.css
var referenceStyle []byte

var referenceTemplate = template.Must(template.New("reference").Parse(referencePage))

func (s *server) ShowReference(context.Context, api.ShowReferenceRequestObject) (api.ShowReferenceResponseObject, error) {
	return document{media: "text/html; charset=utf-8", policy: referencePolicy, body: s.reference}, nil
}

func (s *server) GetReferenceStyle(context.Context, api.GetReferenceStyleRequestObject) (api.GetReferenceStyleResponseObject, error) {
	return document{media: "text/css; charset=utf-8", body: referenceStyle}, nil
}

func (d document) VisitShowReferenceResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetReferenceStyleResponse(w http.ResponseWriter) error { return d.write(w) }

// The reference as the template shows it. All of it is text: the template escapes it.
type (
	reference struct {
		Title, Version, OpenAPI string
		Description             []string
		Groups                  []referenceGroup
		Schemas                 []referenceSchema
	}
	referenceGroup struct {
		Name, Description string
		Operations        []referenceOperation
	}
	referenceOperation struct {
		ID, Method, Path, Summary, Description string
		Public                                 bool
		Parameters                             []referenceField
		Body                                   *referenceBody
		Answers                                []referenceAnswer
	}
	referenceField struct {
		Name, In, Description string
		Required              bool
		Type                  referenceType
	}
	referenceBody struct {
		Media, Example string
		Type           referenceType
	}
	referenceAnswer struct {
		Status, Description string
		Bodies              []referenceBody
	}
	referenceSchema struct {
		Name, Description string
		Type              referenceType
		Fields            []referenceField
	}
	// referenceType is a named schema, a list of one, or words.
	referenceType struct {
		Schema, Text string
		List         bool
	}
)

// methods is the order in which a path's operations are shown.
var methods = []string{http.MethodGet, http.MethodPost}

// renderReference answers the contract as a page.
func renderReference(doc *openapi3.T) ([]byte, error) {
	r := reference{
		Title: doc.Info.Title, Version: doc.Info.Version, OpenAPI: doc.OpenAPI,
		Description: strings.Split(strings.TrimSpace(doc.Info.Description), "\n\n"),
	}
	for _, tag := range doc.Tags {
		group := referenceGroup{Name: tag.Name, Description: tag.Description}
		for _, path := range doc.Paths.InMatchingOrder() {
			for _, method := range methods {
				o := doc.Paths.Value(path).GetOperation(method)
				if o == nil || !slices.Contains(o.Tags, tag.Name) {
					continue
				}
				shown, err := showOperation(method, path, o)
				if err != nil {
					return nil, fmt.Errorf("render %s %s: %w", method, path, err)
				}
				group.Operations = append(group.Operations, shown)
			}
		}
		slices.SortStableFunc(group.Operations, func(a, b referenceOperation) int { return strings.Compare(a.Path, b.Path) })
		r.Groups = append(r.Groups, group)
	}
	for name, ref := range doc.Components.Schemas {
		schema := referenceSchema{Name: name, Description: ref.Value.Description, Type: showType(&openapi3.SchemaRef{Value: ref.Value})}
		for field, of := range ref.Value.Properties {
			schema.Fields = append(schema.Fields, referenceField{
				Name: field, Description: of.Value.Description, Type: showType(of), Required: slices.Contains(ref.Value.Required, field),
			})
		}
		slices.SortFunc(schema.Fields, func(a, b referenceField) int { return strings.Compare(a.Name, b.Name) })
		r.Schemas = append(r.Schemas, schema)
	}
	slices.SortFunc(r.Schemas, func(a, b referenceSchema) int { return strings.Compare(a.Name, b.Name) })
	var page bytes.Buffer
	if err := referenceTemplate.Execute(&page, r); err != nil {
		return nil, fmt.Errorf("render the reference: %w", err)
	}
	return page.Bytes(), nil
}

func showOperation(method, path string, o *openapi3.Operation) (referenceOperation, error) {
	out := referenceOperation{
		ID: o.OperationID, Method: method, Path: path, Summary: o.Summary, Description: o.Description,
		Public: o.Security != nil && len(*o.Security) == 0,
	}
	for _, p := range o.Parameters {
		out.Parameters = append(out.Parameters, referenceField{
			Name: p.Value.Name, In: p.Value.In, Description: p.Value.Description, Required: p.Value.Required, Type: showType(p.Value.Schema),
		})
	}
	if o.RequestBody != nil {
		for media, content := range o.RequestBody.Value.Content {
			out.Body = &referenceBody{Media: media, Type: showType(content.Schema)}
			if content.Example != nil {
				example, err := json.MarshalIndent(content.Example, "", "  ")
				if err != nil {
					return out, err
				}
				out.Body.Example = string(example)
			}
		}
	}
	for status, answer := range o.Responses.Map() {
		shown := referenceAnswer{Status: status}
		if answer.Value.Description != nil {
			shown.Description = *answer.Value.Description
		}
		for media, content := range answer.Value.Content {
			shown.Bodies = append(shown.Bodies, referenceBody{Media: media, Type: showType(content.Schema)})
		}
		slices.SortFunc(shown.Bodies, func(a, b referenceBody) int { return strings.Compare(a.Media, b.Media) })
		out.Answers = append(out.Answers, shown)
	}
	slices.SortFunc(out.Answers, func(a, b referenceAnswer) int { return strings.Compare(a.Status, b.Status) })
	return out, nil
}

// showType answers the name of a schema, or its rules in words.
func showType(ref *openapi3.SchemaRef) referenceType {
	if ref == nil {
		return referenceType{}
	}
	if name, ok := strings.CutPrefix(ref.Ref, "#/components/schemas/"); ok {
		return referenceType{Schema: name}
	}
	v := ref.Value
	if v.Type.Is(openapi3.TypeArray) {
		of := showType(v.Items)
		if of.Schema != "" && !of.List {
			of.List = true
			return of
		}
		return referenceType{Text: "list of " + of.Text}
	}
	if len(v.AllOf) == 1 {
		return showType(v.AllOf[0])
	}
	words := slices.Clone(v.Type.Slice())
	if v.Format != "" {
		words = append(words, v.Format)
	}
	if v.Pattern != "" {
		words = append(words, "matching "+v.Pattern)
	}
	if len(v.Enum) > 0 {
		var values []string
		for _, value := range v.Enum {
			values = append(values, fmt.Sprint(value))
		}
		words = append(words, "one of "+strings.Join(values, ", "))
	}
	if v.MinLength > 0 {
		words = append(words, fmt.Sprintf("at least %d long", v.MinLength))
	}
	if v.MaxLength != nil {
		words = append(words, fmt.Sprintf("at most %d long", *v.MaxLength))
	}
	if v.Min != nil {
		words = append(words, fmt.Sprintf("from %v", *v.Min))
	}
	if v.Max != nil {
		words = append(words, fmt.Sprintf("to %v", *v.Max))
	}
	return referenceType{Text: strings.Join(words, ", ")}
}
