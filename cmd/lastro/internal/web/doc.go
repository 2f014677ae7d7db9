// Package web is what the admin address serves.
//
//	/healthz     200 while the process lives
//	/readyz      200 while clients can pull, else 503; JSON says what is wrong
//	/metrics     for Prometheus, in its own and in the OpenMetrics format
//	/api/status  the same as `lastro status --output json`
//
// Nothing here changes anything, and nothing asks who is there: the address
// belongs on the loopback or behind something that does.
//
// # Metrics
//
// Those of the Go runtime and of the process (go_*, process_*), what was
// registered from elsewhere, and ours:
//
//	| metric | type | labels | says |
//	|---|---|---|---|
//	| `lastro_build_info` | gauge | version, goversion | always 1 |
//	| `lastro_ready` | gauge | | 1 while the registry takes requests |
//	| `lastro_config_reloads_total` | counter | result | readings of the configuration: ok, error |
//	| `lastro_config_last_reload_success_timestamp_seconds` | gauge | | when the configuration in use was read |
//	| `lastro_registry_requests_total` | counter | method, kind, code | answered requests |
//	| `lastro_registry_request_duration_seconds` | histogram | method, kind | how long they took |
//	| `lastro_registry_requests_in_flight` | gauge | kind | requests being answered |
//	| `lastro_registry_response_bytes_total` | counter | kind | bytes of answers |
//	| `lastro_registry_access_total` | counter | outcome | with auth, requests by what was decided: ok, asked, denied, failed, throttled |
//	| `lastro_registry_connections` | gauge | | connections of clients |
//	| `lastro_registry_refused_total` | counter | | connections and requests that were too many |
//	| `lastro_registry_certificate_expiry_timestamp_seconds` | gauge | | when the certificate expires, with TLS |
//	| `lastro_job_runs_total` | counter | kind, name, result | runs that ended: ok, part, error, interrupted |
//	| `lastro_job_running` | gauge | kind, name | runs that go on |
//	| `lastro_job_duration_seconds` | histogram | kind | how long runs took |
//	| `lastro_job_last_duration_seconds` | gauge | kind, name | how long the last run took |
//	| `lastro_job_last_end_timestamp_seconds` | gauge | kind, name | when the last run ended |
//	| `lastro_job_last_success_timestamp_seconds` | gauge | kind, name | when the last run ended that left nothing undone |
//	| `lastro_job_last_failed_items` | gauge | kind, name | what the last run could not do |
//	| `lastro_job_last_deferred_items` | gauge | kind, name | what waited for an upstream that limits requests |
//	| `lastro_job_last_held_items` | gauge | kind, name | what was not to be published yet |
//	| `lastro_job_transferred_bytes_total` | counter | kind, name | bytes from upstreams (sync), to a vault (backup) |
//	| `lastro_job_upstream_requests_total` | counter | kind, name | requests to upstreams |
//	| `lastro_upstream_pulls_limit` | gauge | upstream | pulls that it allows in its window, where it says so |
//	| `lastro_upstream_pulls_remaining` | gauge | upstream | those that are left |
//	| `lastro_upstream_throttled_seconds` | gauge | upstream | for how long it may not be asked; 0: it may |
//	| `lastro_upstream_requests_total` | counter | upstream, outcome | requests: ok, missing, refused, throttled, error; anew after a reload |
//	| `lastro_store_repositories` | gauge | | repositories in the local registry |
//	| `lastro_store_tags` | gauge | | tags in it |
//	| `lastro_store_images` | gauge | | manifests and indexes in it |
//	| `lastro_store_blobs` | gauge | | files of content in it |
//	| `lastro_store_bytes` | gauge | | bytes of content in it |
//	| `lastro_store_counted_timestamp_seconds` | gauge | | when these five were counted: every five minutes at most |
//	| `lastro_data_available_bytes` | gauge | | free on the disk of the data folder |
//	| `lastro_data_size_bytes` | gauge | | size of that disk |
//	| `lastro_vault_snapshots` | gauge | vault | snapshots in a vault |
//	| `lastro_vault_snapshot_age_seconds` | gauge | vault | age of the newest: what a loss now would cost |
//	| `lastro_vault_locked_until_timestamp_seconds` | gauge | vault | until when all that snapshots need is locked at least, where `s3.object-lock` is set |
//	| `lastro_vault_oldest_unread_seconds` | gauge | vault | for how long what is longest unread there was not read and hashed |
//	| `lastro_vault_problems` | gauge | vault | problems that its last verification found |
//	| `lastro_vault_repaired_total` | counter | vault, source | what verifications repaired there, by where right bytes came from |
//	| `lastro_vault_drill_age_seconds` | gauge | vault | age of the last drill that found nothing wrong |
//	| `lastro_vault_drill_problems` | gauge | vault | problems that the last drill found |
//	| `lastro_vault_rpo_seconds` | gauge | vault | the same as lastro_vault_snapshot_age_seconds, beside the next |
//	| `lastro_vault_rto_seconds` | gauge | vault | how long a restore of everything would take, by the last drill |
//	| `lastro_vault_condemned_blobs` | gauge | vault | blobs that no snapshot needs and that are marked to be removed |
//	| `lastro_vault_condemned_bytes` | gauge | vault | bytes of these |
//	| `lastro_vault_prune_kept` | gauge | vault | objects that its last prune could not remove: a lock, or missing rights |
//	| `lastro_vault_removed_blobs_total` | counter | vault | blobs that prunes removed |
//	| `lastro_vault_freed_bytes_total` | counter | vault | bytes of these |
//	| `lastro_collect_condemned` | gauge | | digests that nothing needs, served until they are deleted or somebody asks for them |
//	| `lastro_collect_kept_by_doubt` | gauge | | what the last run kept because something could not be read or decided |
//	| `lastro_collect_deleted_total` | counter | | digests that were deleted |
//	| `lastro_collect_freed_bytes_total` | counter | | bytes of content that were deleted |
//	| `lastro_collect_taken_back_total` | counter | | condemned digests that somebody asked for |
//	| `lastro_rehydrate_images` | gauge | | images of the snapshot that is restored behind the pulls; 0: none is |
//	| `lastro_rehydrate_restored_images` | gauge | | those of them that are here |
//	| `lastro_rehydrate_failed_images` | gauge | | those that the vault does not have whole, known at the end |
//	| `lastro_rehydrate_fetched_bytes` | gauge | | bytes that were fetched for it since the start |
//	| `lastro_rehydrate_done` | gauge | | 1 when it is done, and the daemon is one like any other |
//	| `lastro_check_last_end_timestamp_seconds` | gauge | | when the last check of the store ended, whatever it found |
//	| `lastro_check_last_success_timestamp_seconds` | gauge | | when the last check ended that left no problem but waste |
//	| `lastro_check_problems` | gauge | kind | problems that it left; orphaned and abandoned are waste that hurts nobody |
//	| `lastro_check_oldest_unread_seconds` | gauge | | for how long what is longest unread was not read and hashed |
//	| `lastro_check_read_bytes_total` | counter | | bytes that checks read and hashed |
//	| `lastro_check_repaired_total` | counter | | problems that checks healed |
//
// The labels have few values, whatever clients ask for. The kind of a job is
// sync, retain, collect, backup, verify, prune, drill, rehydrate or check; that of a problem one of package check's.
// Name and vault are names in the configuration, or "other", of a job that is
// the only one of its kind the kind, and "ledger" of the ledger's check of itself. The kind of a request is base, catalog, manifest, blob, tags,
// referrers, upload or other; method and code are those that HTTP knows,
// "other", and for answers that were broken off the code "aborted". No label
// holds a repository, tag or digest.
package web
