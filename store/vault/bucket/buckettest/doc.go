// Package buckettest holds the test that every implementation of bucket.Bucket passes.
package buckettest
