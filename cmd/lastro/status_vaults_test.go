package main

import (
	"strings"
	"testing"
	"time"
)

func TestStatusSaysFromWhichVaultOneCouldRestoreNow(t *testing.T) {
	now := time.Date(2026, 5, 2, 12, 0, 0, 0, time.UTC)
	at := func(ago time.Duration) *time.Time { return new(now.Add(-ago)) }
	bad := []string{"the last verify found 2 problems"}
	for name, c := range map[string]struct {
		vaults []vaultStatus
		word   string
		want   string
	}{
		"none":                          {nil, "no", "no: nothing was saved from here yet"},
		"one without a backup":          {[]vaultStatus{{Name: "a", Doubts: bad}}, "no", "no: nothing was saved from here yet"},
		"the newest of two":             {[]vaultStatus{{Name: "a", Newest: at(2 * time.Hour)}, {Name: "b", Newest: at(time.Hour)}}, "yes", "yes: from vault b, the backup of 2026-05-02T11:00:00Z (1 hour ago), never verified"},
		"a sound one before a newer":    {[]vaultStatus{{Name: "a", Newest: at(2 * time.Hour), Verified: at(time.Hour)}, {Name: "b", Newest: at(time.Hour), Doubts: bad}}, "yes", "yes: from vault a, the backup of 2026-05-02T10:00:00Z (2 hours ago), last verified 1 hour ago"},
		"all before a newer part":       {[]vaultStatus{{Name: "a", Newest: at(2 * time.Hour)}, {Name: "b", Newest: at(time.Hour), Part: true}}, "yes", "yes: from vault a, the backup of 2026-05-02T10:00:00Z (2 hours ago), never verified"},
		"a part":                        {[]vaultStatus{{Name: "b", Newest: at(time.Hour), Part: true}}, "yes", "(1 hour ago), only what its include names, never verified"},
		"a sound part before all":       {[]vaultStatus{{Name: "a", Newest: at(time.Hour), Doubts: bad}, {Name: "b", Newest: at(2 * time.Hour), Part: true}}, "yes", "(2 hours ago), only what its include names, never verified"},
		"where none is sound":           {[]vaultStatus{{Name: "a", Newest: at(2 * time.Hour), Doubts: bad}, {Name: "b", Newest: at(time.Hour), Doubts: bad}}, "in doubt", "in doubt: from vault b, the backup of 2026-05-02T11:00:00Z (1 hour ago), the last verify found 2 problems"},
		"all that is known of a good":   {[]vaultStatus{{Name: "a", Newest: at(time.Hour), Verified: at(time.Hour), OldestUnread: at(24 * time.Hour), Drilled: at(time.Hour), RTOSeconds: new(int64(90))}}, "yes", "last verified 1 hour ago, all of it since 2026-05-01T12:00:00Z, drilled 1 hour ago, in about 1m30s"},
		"an empty registry":             {[]vaultStatus{{Name: "a", Found: at(2 * time.Hour)}, {Name: "b", Found: at(time.Hour)}, {Name: "c"}}, "yes", "yes: this registry is empty, and vault b has a backup of 2026-05-02T11:00:00Z (1 hour ago): lastro restore --dry-run --from b, or lastro serve --from-vault b"},
		"one that can read the older":   {[]vaultStatus{{Name: "a", Found: at(time.Hour), Unread: "it is encrypted"}, {Name: "b", Found: at(2 * time.Hour)}, {Name: "c", Found: at(time.Minute), Unread: "it is encrypted"}}, "yes", "yes: this registry is empty, and vault b has a backup of 2026-05-02T10:00:00Z (2 hours ago): lastro restore --dry-run --from b, or lastro serve --from-vault b"},
		"one that lost all, not a part": {[]vaultStatus{{Name: "a", Found: at(time.Hour), Part: true}, {Name: "b", Found: at(2 * time.Hour)}, {Name: "c", Found: at(time.Minute), Part: true}}, "yes", "lastro restore --dry-run --from b, or lastro serve --from-vault b"},
		"one that cannot read":          {[]vaultStatus{{Name: "a", Found: at(time.Hour), Unread: "it is encrypted"}}, "no", "no: this registry is empty, and vault a has a backup of 2026-05-02T11:00:00Z (1 hour ago) that this machine cannot read: set backup[].identity"},
	} {
		t.Run(name, func(t *testing.T) {
			st := status{Vaults: c.vaults, now: now}
			st.Restorable = st.restorable()
			if got := st.restore(); st.Restorable != c.word || !strings.HasSuffix(got, c.want) {
				t.Errorf("got %s: %s", st.Restorable, got)
			}
		})
	}
}
