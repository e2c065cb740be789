// Drives the session class of onnxruntime_perf_test: its constructor, its Run() and its clock, unmodified.
// program MODEL THREADS WARM_UP RUNS [INPUT FILE]...: prints the seconds of every timed run, one a line.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "TestCase.h"
#include "ort_test_session.h"

const OrtApi* g_ort = nullptr;

namespace onnxruntime {
std::vector<std::string> GetStackTrace() { return {}; }
}  // namespace onnxruntime

namespace {

class Network : public TestModelInfo {
 public:
  Network(const std::string& path, std::vector<std::string> inputs) : path_(path), inputs_(std::move(inputs)) {}
  const std::filesystem::path& GetModelUrl() const override { return path_; }
  int GetInputCount() const override { return static_cast<int>(inputs_.size()); }
  const std::string& GetInputName(size_t index) const override { return inputs_[index]; }

 private:
  std::filesystem::path path_;
  std::vector<std::string> inputs_;
};

// The tensor of one input, of the shape and type that the model says, filled from a file.
Ort::Value ReadInput(const Ort::Session& model, const std::string& name, const std::string& file) {
  Ort::AllocatorWithDefaultOptions allocator;
  for (size_t index = 0; index < model.GetInputCount(); ++index) {
    if (name != model.GetInputNameAllocated(index, allocator).get()) continue;
    auto type = model.GetInputTypeInfo(index);
    auto info = type.GetTensorTypeAndShapeInfo();
    auto shape = info.GetShape();
    auto value = Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), info.GetElementType());
    std::ifstream stream(file, std::ios::binary);
    std::vector<char> bytes((std::istreambuf_iterator<char>(stream)), {});
    std::copy(bytes.begin(), bytes.end(), static_cast<char*>(value.GetTensorMutableRawData()));
    return value;
  }
  throw std::runtime_error("the model has no input " + name);
}

}  // namespace

int main(int count, char** words) {
  using namespace onnxruntime::perftest;
  if (count < 5) return 2;
  g_ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  PerformanceTestConfig config;
  config.model_info.model_file_path = words[1];
  config.run_config.intra_op_num_threads = std::stoi(words[2]);
  config.run_config.inter_op_num_threads = 1;
  std::vector<std::string> inputs;
  for (int index = 5; index + 1 < count; index += 2) inputs.push_back(words[index]);

  Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "onnxruntime_perf_test");
  std::random_device device;
  std::vector<Ort::Value> values;  // read first: a second copy of the weights would lie beside the measured one
  {
    Ort::SessionOptions plain;
    plain.SetGraphOptimizationLevel(ORT_DISABLE_ALL).SetIntraOpNumThreads(1);
    Ort::Session model(environment, words[1], plain);
    for (size_t index = 0; index < inputs.size(); ++index)
      values.push_back(ReadInput(model, inputs[index], words[6 + 2 * index]));
  }
  OnnxRuntimeTestSession session(environment, device, config, Network(words[1], inputs));
  for (size_t index = 0; index < inputs.size(); ++index)
    session.PreLoadTestData(0, index, std::move(values[index]));
  for (int run = 0; run < std::stoi(words[3]); ++run) session.Run();
  std::vector<double> seconds;
  for (int run = 0; run < std::stoi(words[4]); ++run) seconds.push_back(session.Run().count());
  for (double one : seconds) std::printf("%.9f\n", one);
}
