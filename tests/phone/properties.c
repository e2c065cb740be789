/* android::base::GetProperty for adbd off Android: answers from /system/build.prop, as getprop does.
 *
 * `text` is libstdc++'s std::string without the pointer into itself: always on the heap, of at least 16 bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  char *bytes;
  size_t length, capacity, unused;
} text;

static text copy(const char *bytes, size_t length) {
  text made = {malloc(length + 16), length, length + 15, 0};
  memcpy(made.bytes, bytes, length);
  made.bytes[length] = 0;
  return made;
}

text get_property(const text *name, const text *otherwise) __asm__(
    "_ZN7android4base11GetPropertyERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEES8_");

text get_property(const text *name, const text *otherwise) {
  FILE *file = fopen("/system/build.prop", "r");
  char line[512];
  while (file && fgets(line, sizeof line, file)) {
    if (strncmp(line, name->bytes, name->length) || line[name->length] != '=') continue;
    line[strcspn(line, "\n")] = 0;
    fclose(file);
    const char *value = line + name->length + 1;
    return copy(value, strlen(value));
  }
  if (file) fclose(file);
  return copy(otherwise->bytes, otherwise->length);
}
