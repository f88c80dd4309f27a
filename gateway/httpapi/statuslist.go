package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
	"github.com/zhenglian/zhenglian/gateway/credential"
	"github.com/zhenglian/zhenglian/gateway/service"
)

const signedListMedia = "application/" + credential.ListType

func (s *server) GetStatusList(ctx context.Context, r api.GetStatusListRequestObject) (api.GetStatusListResponseObject, error) {
	signed := accepts(requestOf(ctx), signedListMedia)
	ctx, _ = inbound(ctx)
	l, err := s.Verification.StatusList(ctx, domain.DepartmentCode(r.Department), service.StatusPurpose(r.Purpose), r.List)
	if err != nil {
		return nil, err
	}
	list := s.statusList(l)
	if !signed {
		return api.GetStatusList200ApplicationVcPlusJSONResponse(list), nil
	}
	// The times of the signature are those of the list, so that those who know JWT
	// and not status lists refuse an old one, too.
	payload, err := json.Marshal(struct {
		api.StatusListCredential
		IssuedAt int64 `json:"iat"`
		Expires  int64 `json:"exp"`
	}{list, list.ValidFrom.Unix(), list.ValidUntil.Unix()})
	if err != nil {
		return nil, fmt.Errorf("write status list: %w", err)
	}
	text, err := s.Certificates.SignStatusList(l.Issuer, payload)
	return document{media: signedListMedia, body: []byte(text)}, err
}

func (s *server) statusList(l service.StatusList) api.StatusListCredential {
	id := fmt.Sprintf("%s/v1/status-lists/%s/%s/%d", strings.TrimSuffix(s.PublicURL, "/"), l.Issuer, l.Purpose, l.List)
	from := l.AsOf.Truncate(time.Second)
	return api.StatusListCredential{
		Context:   []string{"https://www.w3.org/ns/credentials/v2"},
		ID:        id,
		Type:      []string{"VerifiableCredential", "BitstringStatusListCredential"},
		Issuer:    "urn:zhenglian:department:" + string(l.Issuer),
		ValidFrom: from, ValidUntil: from.Add(service.StatusListFor),
		CredentialSubject: api.StatusListSubject{
			ID: id + "#list", Type: "BitstringStatusList", StatusPurpose: api.StatusPurpose(l.Purpose), EncodedList: l.Encoded,
		},
	}
}

// accepts reports whether a request asks for this media type by its name.
func accepts(r *http.Request, media string) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		if err == nil && name == media && (params["q"] == "" || strings.Trim(params["q"], "0.") != "") {
			return true
		}
	}
	return false
}

func (s *server) GetSealed(ctx context.Context, r api.GetSealedRequestObject) (api.GetSealedResponseObject, error) {
	ctx, _ = inbound(ctx)
	sealed, err := s.Certificates.Sealed(ctx, r.Ref)
	return document{media: "application/octet-stream", body: sealed}, err
}
