package access

import (
	"slices"

	"lastro/store/serve/spec"
)

// rules are all that decides about users and nobody.
type rules struct {
	anonymous bool // may pull
	changing  bool // some rule says who may push or delete
	list      []rule
}

func compileRules(a *Auth) (rules, error) {
	rs := rules{anonymous: a.Anonymous != AnonymousNone}
	for _, written := range a.Rules {
		r, err := compile(written)
		if err != nil {
			return rules{}, err
		}
		rs.list = append(rs.list, r)
		rs.changing = rs.changing || r.has(spec.Push) || r.has(spec.Delete)
	}
	return rs, nil
}

// allow decides about a user; "" is nobody. repo is "" for what is about none.
func (rs rules) allow(user, repo string, a spec.Action) bool {
	switch {
	case user == "" && (a != spec.Pull || !rs.anonymous):
		return false
	case repo == "":
		return a == spec.Pull
	}
	if a != spec.Pull && !rs.changing {
		return true
	}
	about := func(r rule) bool { return r.has(a) && r.pattern.Match(repo) }
	if slices.ContainsFunc(rs.list, func(r rule) bool { return about(r) && r.names(user) }) {
		return true
	}
	return a == spec.Pull && !slices.ContainsFunc(rs.list, about)
}
