// Package s3 keeps a vault's objects in a bucket of an S3-compatible server. It is
// the one home of the AWS SDK for buckets.
//
// Up to 200 MiB an object is one PutObject, with its SHA-256 for the server to check
// and to tell ever after. Above that it goes in parts of 64 MiB, so that what breaks
// off is not sent again as a whole: each with its CRC64NVME, joined under the CRC64NVME
// of the whole after the SHA-256 was found right here. Both are written with
// If-None-Match, records with If-Match. "There already" is believed after a look at
// size and checksum. Parts are read from their file twice (hash, send) and never held
// in memory. They carry an unsigned payload: a second SHA-256 over the same bytes would
// cost more than the rest of the upload. An upload that fails is aborted; one that was
// killed leaves parts that a lifecycle rule (AbortIncompleteMultipartUpload) should
// expire.
//
// # Retries
//
// This package is the only owner of retries; the SDK's own are off. A request is
// sent up to eight times, with growing, jittered pauses, after a lost connection,
// a server fault, throttling or a lost race that the server wants repeated. A
// stream that breaks is continued where it broke. An answer that got lost is
// settled by looking at what the bucket holds. A request that makes no progress for
// Options.Idle is cut and counts as a lost connection.
package s3
