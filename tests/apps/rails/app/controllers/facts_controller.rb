class FactsController < ActionController::API
  ME = JSON.parse(ENV.fetch("VCAP_APPLICATION", "{}"))

  def show
    render json: {
      framework: "rails3", name: ME["name"], version: ME["version"], instance: ME["instance_index"],
      instance_id: ME["instance_id"], dea: ENV["VCAP_APP_HOST"], port: ENV["PORT"],
      runtime: RUBY_VERSION, mode: Rails.env, greeting: ENV["GREETING"]
    }
  end

  def crash
    Process.kill(:KILL, Process.pid)
  end
end
