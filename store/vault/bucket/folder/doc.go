// Package folder keeps a vault's objects in a folder of the file system.
//
//	<folder>/<key>        mode 0600, folders 0700
//	<folder>/.tmp/…       objects being written; what a crash left is removed a day later
//	<folder>/.lock        flock(2), held during a Swap
//
// An object is written under .tmp, synced, and linked to its name (link(2) fails
// if the name is taken), then its folder is synced. File systems without hard
// links get a rename under the lock. Keys are opened through os.Root: no key
// or symbolic link leads out of the folder. Nothing is ever retried.
package folder
