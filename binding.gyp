{
  # For node-gyp in a checkout; not part of the package.
  'includes': [ 'native/groupgrad.gypi' ],
}
