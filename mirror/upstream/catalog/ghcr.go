package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"lastro/mirror/upstream/field"
)

// ghcr is GitHub's API: GHCR's repositories are its packages.
func ghcr() api {
	return api{
		address:   "https://api.github.com",
		authorize: gitHubToken,
		places: func(namespace string) []string {
			return []string{"orgs/" + namespace + "/packages", "users/" + namespace + "/packages"}
		},
		query:  "package_type=container&per_page=100",
		read:   readGitHub,
		denied: "upstreams.ghcr.io.credentials needs a classic token that may read packages (read:packages), or name the repositories: ghcr.io/org/{app,web}",
	}
}

func gitHubToken(ctx context.Context, c Catalog) (http.Header, error) {
	_, token, err := c.Login(ctx)
	switch {
	case err != nil:
		return nil, err
	case token == "":
		return nil, errors.New("GHCR lists packages only with a token: set upstreams.ghcr.io.credentials, or name the repositories: ghcr.io/org/{app,web}")
	case !headerSafe(token):
		return nil, errors.New("the password in upstreams.ghcr.io.credentials is not a token of GitHub")
	}
	return http.Header{
		"Accept":               {"application/vnd.github+json"},
		"Authorization":        {"Bearer " + token},
		"X-Github-Api-Version": {"2022-11-28"},
	}, nil
}

// readGitHub reads a page of packages, whose names may have slashes.
func readGitHub(resp *http.Response, raw []byte) (page, error) {
	var packages []struct{ Name string }
	if err := json.Unmarshal(raw, &packages); err != nil {
		return page{}, err
	}
	var p page
	p.next, _ = field.NextLink(resp.Header.Values("Link"))
	for _, pkg := range packages {
		p.names = append(p.names, strings.ToLower(pkg.Name))
	}
	return p, nil
}
