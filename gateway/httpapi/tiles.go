package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/zhenglian/zhenglian/api"
	"github.com/zhenglian/zhenglian/domain"
)

// How long others may keep what they fetched of a log. A tile never changes; one
// that is not full is soon replaced by a wider one.
const (
	cacheCheckpoint  = "no-cache"
	cacheTile        = "public, max-age=31536000, immutable"
	cachePartialTile = "public, max-age=86400, immutable"
)

func (s *server) GetLogCheckpoint(ctx context.Context, r api.GetLogCheckpointRequestObject) (api.GetLogCheckpointResponseObject, error) {
	ctx, _ = inbound(ctx)
	if err := s.ownLog(r.Department); err != nil {
		return nil, err
	}
	checkpoint, err := s.Tiles.Checkpoint(ctx)
	if err == nil && checkpoint.Size == 0 {
		err = &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("the log of %s has no entries yet, and so no checkpoint", s.Department)}
	}
	return document{media: "text/plain; charset=utf-8", cache: cacheCheckpoint, body: checkpoint.Note}, err
}

func (s *server) GetLogTile(ctx context.Context, r api.GetLogTileRequestObject) (api.GetLogTileResponseObject, error) {
	ctx, _ = inbound(ctx)
	if err := s.ownLog(r.Department); err != nil {
		return nil, err
	}
	index, width, err := parseTilePath(r.Path)
	if err != nil {
		return nil, err
	}
	cache := cacheTile
	if width > 0 {
		cache = cachePartialTile
	}
	hashes, err := s.Tiles.Tile(ctx, uint64(r.Level), index, width)
	return document{media: "application/octet-stream", cache: cache, body: hashes}, err
}

func (s *server) GetLogEntries(ctx context.Context, r api.GetLogEntriesRequestObject) (api.GetLogEntriesResponseObject, error) {
	ctx, caller := inbound(ctx)
	if err := auditorOnly(caller, "read the entries of an access log"); err != nil {
		return nil, err
	}
	if err := s.ownLog(r.Department); err != nil {
		return nil, err
	}
	index, width, err := parseTilePath(r.Path)
	if err != nil {
		return nil, err
	}
	bundle, err := s.Tiles.EntryBundle(ctx, index, width)
	return document{media: "application/octet-stream", body: bundle}, err
}

// ownLog refuses the log of another department.
func (s *server) ownLog(department string) error {
	if domain.DepartmentCode(department) == s.Department {
		return nil
	}
	return &domain.Error{Kind: domain.NotFound, Msg: fmt.Sprintf("this gateway serves the access log of %s; ask the gateway of the department whose log it is", s.Department)}
}

// parseTilePath reads the path of a tile as C2SP tlog-tiles writes it: the index
// in groups of three digits, all but the last after an x, then .p/ and the width
// of a partial tile. Width 0 is a full tile.
func parseTilePath(path string) (index uint64, width uint8, err error) {
	no := &domain.Error{Kind: domain.NotFound, Msg: "there is no tile under this path"}
	digits, partial, isPartial := strings.Cut(path, ".p/")
	if isPartial {
		w, err := strconv.ParseUint(partial, 10, 8)
		if err != nil || w == 0 {
			return 0, 0, no
		}
		width = uint8(w)
	}
	groups := strings.Split(digits, "/")
	if len(groups) > 1 && groups[0] == "x000" {
		return 0, 0, no // another tile's path with zeros before it
	}
	for _, g := range groups {
		n, err := strconv.ParseUint(strings.TrimPrefix(g, "x"), 10, 16)
		if err != nil || n > 999 {
			return 0, 0, no
		}
		index = index*1000 + n
	}
	return index, width, nil
}

var tilePath = regexp.MustCompile(`^(/v1/logs/[^/]+/tile/[^/]+/)(.+)$`)

// joinTilePath answers u with the slashes within a tile's own path escaped, so
// that it is one parameter of its route; nil where there is nothing to escape.
func joinTilePath(u *url.URL) *url.URL {
	if !strings.HasPrefix(u.Path, "/v1/logs/") { // nearly every one: spare it the pattern
		return nil
	}
	m := tilePath.FindStringSubmatch(u.EscapedPath())
	if m == nil || !strings.Contains(m[2], "/") {
		return nil
	}
	joined := *u
	joined.RawPath = m[1] + strings.ReplaceAll(m[2], "/", "%2F")
	return &joined
}

func (d document) VisitGetLogCheckpointResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetLogTileResponse(w http.ResponseWriter) error { return d.write(w) }

func (d document) VisitGetLogEntriesResponse(w http.ResponseWriter) error { return d.write(w) }
