package access

import (
	"strings"
	"testing"

	"lastro/store/serve/spec"
)

func TestWhoMayDoWhat(t *testing.T) {
	push := []Rule{{Match: "local/**", Users: []string{"ci"}, Allow: []string{"push"}}, {Match: "local/**", Users: []string{"ops"}, Allow: []string{"delete"}}}
	secret := []Rule{{Match: "secret/**", Users: []string{"ci"}, Allow: []string{"pull"}}, {Match: "{secret/shared,members/*}", Users: []string{"*"}, Allow: []string{"pull", "push"}}}
	onlyPull := secret[:1]
	for _, c := range []struct {
		name       string
		anonymous  string
		rules      []Rule
		user, repo string
		want       string // pull, push, delete: a letter each
	}{
		{"nobody pulls with anonymous: pull", "pull", nil, "", "a", "p--"},
		{"nobody pulls when nothing is said", "", nil, "", "a", "p--"},
		{"nobody does nothing with anonymous: none", "none", nil, "", "a", "---"},
		{"a user does everything without rules", "none", nil, "ann", "a", "pPD"},
		{"a user pulls what rules of pushing name", "none", push, "ann", "local/x", "p--"},
		{"a user that a rule names pushes and no more", "none", push, "ci", "local/x", "pP-"},
		{"rules add up, in any order", "none", push, "ops", "local/x", "p-D"},
		{"a rule is for what it matches", "none", push, "ci", "other/x", "p--"},
		{"nobody pulls what rules of pushing name", "pull", push, "", "local/x", "p--"},
		{"what a rule lets some pull is hidden from nobody", "pull", secret, "", "secret/x", "---"},
		{"what a rule lets some pull is hidden from other users", "pull", secret, "ann", "secret/x", "---"},
		{"what a rule lets some pull they pull", "pull", secret, "ci", "secret/x", "p--"},
		{"one of two rules is enough", "pull", secret, "ann", "secret/shared", "pP-"},
		{"* is every user and not nobody", "pull", secret, "", "members/x", "---"},
		{"* is every user", "pull", secret, "ann", "members/x", "pP-"},
		{"rules of pulling alone leave pushing to all users", "pull", onlyPull, "ann", "a", "pPD"},
		{"nobody sees the catalog", "pull", secret, "", "", "p--"},
		{"nobody does not see the catalog with none", "none", secret, "", "", "---"},
		{"a user sees the catalog", "none", secret, "ann", "", "p--"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs, err := compileRules(&Auth{Anonymous: c.anonymous, Rules: c.rules})
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for i, a := range []spec.Action{spec.Pull, spec.Push, spec.Delete} {
				letter := "-"
				if rs.allow(c.user, c.repo, a) {
					letter = "pPD"[i : i+1]
				}
				got.WriteString(letter)
			}
			if got.String() != c.want {
				t.Errorf("got %s, want %s", got.String(), c.want)
			}
		})
	}
}
