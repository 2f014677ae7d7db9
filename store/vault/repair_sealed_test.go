package vault_test

import (
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault"
	"lastro/store/vault/bucket/buckettest"
	"lastro/store/vault/bucket/s3"
)

func TestASealedVaultIsRepairedByWhoCanRead(t *testing.T) {
	t.Parallel()
	layer, manifest := sharedLayer().desc.Digest, plain("a-1-moved", sharedLayer()).root.desc.Digest
	for name, wreck := range map[string]func(t *testing.T, file string){
		"a byte of it changed": flipLast, "its header changed": spoil, "it is gone": mustRemove, "it is cut off": cutShort,
		"it is sealed to others": sealToOthers, "it is another content": otherContent,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSealing(t)
			st := newStore(t, s.clock)
			sample(t, st)
			backup(t, s.writer(t), st)
			for _, d := range []digest.Digest{layer, manifest} {
				wreck(t, s.file(t, d))
			}
			all := repaired(t, s.reader(t), vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: st}})
			if all.Left() > 0 || all.Repaired()["local store"] != 2 {
				t.Errorf("got %+v", all.Snapshots[0].Problems)
			}
			wantSound(t, s.reader(t), "")
		})
	}
}

// TestAnOlderVersionRepairsASealedVault hides what is sealed under other bytes.
func TestAnOlderVersionRepairsASealedVault(t *testing.T) {
	t.Parallel()
	endpoint, _ := buckettest.Gateway(t)
	buckettest.MakeBucket(t, endpoint, "bucket")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/p", Encrypt: []string{id.Recipient().String()}, Identity: id.String(),
		S3: s3.Settings{Endpoint: endpoint, Credentials: s3.Credentials{AccessKey: buckettest.AccessKey, SecretKey: buckettest.SecretKey}}},
		vault.Options{Keys: filepath.Join(t.TempDir(), "vault-keys")})
	if err != nil {
		t.Fatal(err)
	}
	st := newStore(t, &clock{})
	sample(t, st)
	backup(t, v, st)
	h, err := v.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{v.BlobKey(sharedLayer().desc.Digest), v.BlobKey(plain("a-1-moved", sharedLayer()).root.desc.Digest), h.Snapshots[0].Record}
	for _, key := range keys {
		overwrite(t, v, key)
	}
	all := repaired(t, v, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{}})
	if all.Left() > 0 || all.Repaired()["older version"] != len(keys) {
		t.Errorf("got %+v", all.Snapshots[0].Problems)
	}
	wantSound(t, v, "")
}
