package storage

import (
	"errors"
	"io/fs"
	"path"
)

// A survey looks at what stands on disk, before anything is changed. Each folder on the way to
// a file is looked at once; below a folder that is absent nothing is.
type survey struct {
	tab     *table
	folders map[string]folder

	at string // folder that is open, because the next file is mostly in the same one
	in Folder // nil for none
}

func newSurvey(t *table) *survey {
	return &survey{tab: t, folders: map[string]folder{".": {exists: true}}}
}

// close closes what the survey opened.
func (v *survey) close() {
	if v.in != nil {
		_ = v.in.Close() // it was only looked at
	}
	v.in = nil
}

// lstat looks at a file in a folder that exists.
func (v *survey) lstat(name string) (info fs.FileInfo, err error) {
	if dir := path.Dir(name); v.in == nil || v.at != dir {
		v.close()
		err := v.tab.retry(func() (err error) {
			v.in, err = v.tab.fs.Folder(dir)
			return err
		})
		if err != nil {
			v.in = nil // not an interface that holds a nil pointer
			return nil, err
		}
		v.at = dir
	}
	return v.in.Lstat(path.Base(name))
}

// A folder is what a survey found at a path: one of these, a conflict, or trouble.
type folder struct {
	exists bool
	err    error // *ConflictError: something else stands there; or why it cannot be looked at
}

// folder looks at a folder and those above it.
func (v *survey) folder(dir string) folder {
	if f, ok := v.folders[dir]; ok {
		return f
	}
	if up := v.folder(path.Dir(dir)); !up.exists {
		return up // not remembered: in a fresh torrent every folder comes here
	}
	f := v.inspect(dir)
	v.folders[dir] = f
	return f
}

func (v *survey) inspect(dir string) folder {
	info, err := v.tab.lstat(dir)
	full := v.tab.cfg.path(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return folder{}
	case err != nil:
		return folder{err: v.tab.cfg.pathError("lstat", dir, err)}
	case info.Mode()&fs.ModeSymlink != 0:
		return folder{err: &ConflictError{full, "a symbolic link", false}}
	case !info.IsDir():
		return folder{err: &ConflictError{full, "not a folder", false}}
	}
	v.tab.folders[dir] = true
	return folder{exists: true}
}

// file looks at a regular file; it returns nil where nothing is.
func (v *survey) file(name string) (fs.FileInfo, error) {
	if f := v.folder(path.Dir(name)); !f.exists {
		return nil, f.err
	}
	info, err := v.lstat(name)
	full := v.tab.cfg.path(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, v.tab.cfg.pathError("lstat", name, err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, &ConflictError{full, "a symbolic link", false}
	case info.IsDir():
		return nil, &ConflictError{full, "a folder", false}
	case !info.Mode().IsRegular():
		return nil, &ConflictError{full, "not a regular file", false}
	}
	return info, nil
}

// A finding is where a file's bytes are now, and what is to be done about it.
type finding struct {
	stamp
	adopt   bool // it stands under its final name and becomes NAME.part
	replace bool // NAME.part is used, and the finished file replaces what stands at the final name
}

// scan looks at every file and says what is there. With Overwrite it plans what to adopt.
func (v *survey) scan() ([]finding, error) {
	defer v.close()
	found := make([]finding, len(v.tab.cfg.Files))
	for i := range v.tab.cfg.Files {
		f := &v.tab.cfg.Files[i]
		if f.Pad || f.Length == 0 && !f.Wanted {
			continue
		}
		var err error
		switch {
		case v.tab.cfg.ReadOnly:
			found[i].stamp, err = v.lookLenient(f, false)
		case !f.Wanted: // never written to, so nothing there is in the way
			found[i].stamp, err = v.lookLenient(f, true)
		default:
			found[i], err = v.lookWanted(f)
		}
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// lookLenient looks at a file that is only read; what cannot be its content counts as absent.
func (v *survey) lookLenient(f *File, parts bool) (stamp, error) {
	var conflict *ConflictError
	if up := v.folder(path.Dir(f.Path)); !up.exists {
		if up.err != nil && !errors.As(up.err, &conflict) {
			return stamp{}, up.err
		}
		return stamp{}, nil
	}
	info, err := v.file(f.Path)
	switch {
	case err != nil && !errors.As(err, &conflict):
		return stamp{}, err
	case info != nil && (v.tab.cfg.ReadOnly || info.Size() == f.Length):
		return stampOf(atFinal, info), nil
	case !parts:
		return stamp{}, nil
	}
	info, err = v.file(f.Path + partSuffix)
	if err != nil && !errors.As(err, &conflict) {
		return stamp{}, err
	}
	if info == nil {
		return stamp{}, nil
	}
	return stampOf(atPart, info), nil
}

// lookWanted looks at a file that is to be completed.
func (v *survey) lookWanted(f *File) (finding, error) {
	if up := v.folder(path.Dir(f.Path)); !up.exists {
		return finding{}, up.err // a conflict, or nothing
	}
	final, err := v.file(f.Path)
	if err != nil {
		return finding{}, err
	}
	part, err := v.file(f.Path + partSuffix)
	if err != nil {
		return finding{}, err
	}
	differs := final != nil && final.Size() != f.Length
	switch {
	case differs && !v.tab.cfg.Overwrite:
		return finding{}, &ConflictError{v.tab.cfg.path(f.Path), "its size differs", true}
	case part != nil && (final == nil || v.tab.cfg.Overwrite):
		return finding{stamp: stampOf(atPart, part), replace: final != nil}, nil
	case final != nil:
		return finding{stamp: stampOf(atFinal, final), adopt: differs}, nil
	}
	return finding{}, nil
}

// hidden checks that our own files beside the content may be used. It returns whether the side
// file is there.
func (v *survey) hidden() (side bool, err error) {
	defer v.close()
	for _, name := range []string{v.tab.cfg.recordName(), v.tab.cfg.lockName()} {
		if _, err := v.file(name); err != nil {
			return false, err
		}
	}
	info, err := v.file(v.tab.cfg.sideName())
	return info != nil, err
}
